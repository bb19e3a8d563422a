# One image for every process of the distributed deployment: worker, serve, topics.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim AS build
WORKDIR /src
RUN python -m venv /opt/headrace
ENV PATH=/opt/headrace/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The dependencies first: their layer stays as long as the lock does.
COPY requirements.lock ./
RUN pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY stream stream
COPY models models
COPY lfs lfs
COPY monitoring monitoring
RUN pip install --no-deps --no-build-isolation .

FROM python:${PYTHON}-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/headrace headrace \
    && install -d -o headrace /var/cache/headrace
COPY --from=build /opt/headrace /opt/headrace
ENV PATH=/opt/headrace/bin:$PATH PYTHONUNBUFFERED=1 NUMBA_CACHE_DIR=/var/cache/headrace
USER headrace
# Compile the kernels now: it takes minutes, in which a worker would miss its heartbeats. On
# another kind of processor than the builder's they are compiled anew at the start.
RUN headrace demo --exit --events 500 --rate 100000
# Where headrace.toml is looked for, and where the embedded deployment keeps its database: mount a
# volume there for `headrace up`.
WORKDIR /var/lib/headrace
STOPSIGNAL SIGTERM
ENTRYPOINT ["headrace"]
CMD ["--help"]
