"""Apache Kafka's own jars, fetched once by Maven, and a Java to run them."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.services.service import ServiceUnavailable

KAFKA_VERSION = "4.1.0"
MIN_JAVA = 17
FETCH_TIMEOUT_S = 600

POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>headrace</groupId>
  <artifactId>kafka-jars</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>2.24.3</version>
    </dependency>
  </dependencies>
</project>
"""


def cache_folder() -> Path:
    """Folder for what is fetched once; `HEADRACE_CACHE_DIR` moves it."""
    configured = os.environ.get("HEADRACE_CACHE_DIR")
    return Path(configured) if configured else Path.home() / ".cache" / "headrace"


def find_java() -> Path:
    """Find a Java of version 17 or later: `JAVA_HOME`, then `PATH`.

    Raises
    ------
    ServiceUnavailable
        None is there, or it is older.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if found is None:
        raise ServiceUnavailable(f"Kafka needs Docker, or Java {MIN_JAVA} and Maven: no java")
    answer = subprocess.run(
        [found, "-version"], capture_output=True, text=True, timeout=60, check=False
    )
    version = re.search(r'version "(\d+)', answer.stderr + answer.stdout)
    if version is None or int(version[1]) < MIN_JAVA:
        told = (answer.stderr + answer.stdout).strip().splitlines()[:1]
        raise ServiceUnavailable(f"Kafka needs Java {MIN_JAVA} or later, found {told}")
    return Path(found)


def kafka_jars() -> Path:
    """Give the folder of Kafka's jars, fetching them at the first call on a machine.

    Two test runs may call it at once: one fetches into a folder of its own and renames it,
    the other waits for the lock.

    Raises
    ------
    ServiceUnavailable
        They are not there and cannot be fetched.
    """
    target = cache_folder() / f"kafka-{KAFKA_VERSION}"
    if target.is_dir():
        return target
    maven = shutil.which("mvn")
    if maven is None:
        raise ServiceUnavailable(f"Kafka needs Docker, or Java {MIN_JAVA} and Maven: no mvn")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            _fetch(maven, target)
    return target


def _fetch(maven: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        (folder / "pom.xml").write_text(POM, encoding="utf-8")
        command = [maven, "-q", "-B", "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={folder / 'jars'}", "-DincludeScope=runtime"]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=FETCH_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServiceUnavailable(f"Maven did not fetch Kafka in {FETCH_TIMEOUT_S} s") from error
        if done.returncode != 0:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            raise ServiceUnavailable(f"Maven could not fetch Kafka's jars:\n{last}")
        (folder / "jars").rename(target)
