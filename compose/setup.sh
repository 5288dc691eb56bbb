# Sourced by ./demo and ./test: finds what they need, and installs it where that is possible.
# On Debian as root missing packages are installed; elsewhere this says what is missing and how to get it.

# install COMMAND PACKAGE...: makes sure that a command is there.
install() {
    command=$1
    shift
    command -v "$command" >/dev/null 2>&1 && return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing $* (for $command)" >&2
        [ -n "${apt_updated:-}" ] || apt-get update -qq >&2
        apt_updated=yes
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
    else
        echo "error: $command is missing; install it (on Debian: sudo apt-get install $*)" >&2
        exit 69
    fi
}

need_build_tools() {
    if ! command -v cargo >/dev/null 2>&1; then
        echo "error: cargo is missing; install Rust 1.95 or newer (https://rustup.rs)" >&2
        exit 69
    fi
    install gcc gcc libc6-dev
    install g++ g++
    install make make
    install pkg-config pkg-config
    pkg-config --exists openssl 2>/dev/null || install_openssl
}

install_openssl() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        [ -n "${apt_updated:-}" ] || apt-get update -qq >&2
        apt_updated=yes
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libssl-dev >&2
    else
        echo "error: OpenSSL's headers are missing; install them (on Debian: sudo apt-get install libssl-dev)" >&2
        exit 69
    fi
}

# Apache Kafka's jars, on which the end-to-end tests run as well as on the embedded broker.
need_kafka() {
    install java default-jre-headless
    kafka=${CARGO_TARGET_DIR:-target}/kafka
    [ -e "$kafka/.complete" ] && [ "$kafka/.complete" -nt tests/kafka/pom.xml ] && return 0
    install mvn maven
    rm -rf "$kafka"
    mkdir -p "$kafka"
    mvn --quiet --batch-mode --no-transfer-progress --file tests/kafka/pom.xml dependency:copy-dependencies \
        -DoutputDirectory="$(cd "$kafka" && pwd)" >&2
    touch "$kafka/.complete"
}

# Other people's readers, which the end-to-end tests hold our topics and lake against.
need_peers() {
    install kcat kcat
    install docker-compose docker-compose
    install python3 python3
    python3 -m venv --help >/dev/null 2>&1 || install python3-venv python3-venv
    venv=${CARGO_TARGET_DIR:-target}/peers
    if ! "$venv/bin/python" -c 'import confluent_kafka, duckdb, flask_cors, grpc, moto, opentelemetry.proto, polars, pyarrow' 2>/dev/null; then
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/peers/requirements.txt
    fi
}
