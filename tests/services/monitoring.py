"""Prometheus and Alertmanager, from the local binaries, with a test's own configuration."""

import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping

from tests.services.ports import PortLease
from tests.services.process import OwnedProcess
from tests.services.service import Service, ServiceUnavailable

MINIMAL_PROMETHEUS = "global: {scrape_interval: 1s}\n"
MINIMAL_ALERTMANAGER = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


class _HttpService(Service):
    """A local binary with one HTTP port and a configuration file."""

    binaries: tuple[str, ...] = ()
    config_name = ""

    def __init__(self, config: str, files: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._lease = PortLease()
        self.address = f"127.0.0.1:{self._lease.port}"
        self.url = f"http://{self.address}"
        try:
            found = [path for path in map(shutil.which, self.binaries) if path is not None]
            if not found:
                raise ServiceUnavailable(f"{self.name} needs {' or '.join(self.binaries)} on PATH")
            for name, text in {self.config_name: config, **(files or {})}.items():
                path = self.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            self.runner = OwnedProcess(
                [found[0], *self._arguments()],
                output=self.folder / "output.log",
                cwd=self.folder,
            )
        except BaseException:
            self.close()
            raise

    def _arguments(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=10) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def close(self) -> None:
        super().close()
        self._lease.release()


class PrometheusServer(_HttpService):
    """Run Prometheus with a configuration and the rule files that it names.

    Parameters
    ----------
    config
        Text of `prometheus.yml`; relative paths in it are relative to the service's folder.
    files
        Further files for that folder, by relative name.
    """

    name = "prometheus"
    binaries = ("prometheus",)
    config_name = "prometheus.yml"

    def __init__(
        self, config: str = MINIMAL_PROMETHEUS, files: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(config, files)

    def _arguments(self) -> list[str]:
        return [
            f"--config.file={self.folder / self.config_name}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--web.enable-lifecycle",
            "--log.level=warn",
        ]


class AlertmanagerServer(_HttpService):
    """Run Alertmanager, alone (no cluster), with a configuration.

    Parameters
    ----------
    config
        Text of `alertmanager.yml`.
    files
        Further files (templates) for its folder, by relative name.
    """

    name = "alertmanager"
    # Debian's package puts `prometheus-` before the name.
    binaries = ("alertmanager", "prometheus-alertmanager")
    config_name = "alertmanager.yml"

    def __init__(
        self, config: str = MINIMAL_ALERTMANAGER, files: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(config, files)

    def _arguments(self) -> list[str]:
        return [
            f"--config.file={self.folder / self.config_name}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]
