#!/usr/bin/env bash
# Make .venv from requirements.lock, once. Called by make; safe to call again: it returns at once when nothing changed.
set -euo pipefail
cd "$(dirname "$0")"

stamp=.venv/.armchair-installed
want=$(cat requirements.lock setup.py setup.cfg pyproject.toml bootstrap.sh | sha256sum | cut -d' ' -f1)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && [ -x .venv/bin/armchair ]; then exit 0; fi

python=""
for candidate in "${PYTHON:-}" python3.12 python3.11 python3; do
  if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
     "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "armchair needs Python 3.11 or 3.12 and found neither: install python3.12, or name one with 'make PYTHON=/path/to/python3.11 …'." >&2
  exit 2
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  echo "$python has no ensurepip, so it cannot make a virtual environment: install the package python$version-venv (apt-get install python$version-venv) and run make again." >&2
  exit 2
fi

# A renderer with GL is faster than the ray-cast fallback; nothing else depends on it.
if ! ldconfig -p 2>/dev/null | grep -q 'libEGL\.so\.1'; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "set-up: libEGL is missing, installing libegl1 libegl-mesa0 libgl1-mesa-dri"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libegl1 libegl-mesa0 libgl1-mesa-dri libgl1; } >/dev/null 2>&1 ||
      echo "set-up: that did not work; pictures will come from the ray-cast renderer" >&2
  else
    echo "set-up: libEGL is missing (libegl1 libegl-mesa0 libgl1-mesa-dri); pictures will come from the slower ray-cast renderer" >&2
  fi
fi

# The RealSense SDK links against libusb, also for its software device.
if ! ldconfig -p 2>/dev/null | grep -q 'libusb-1\.0\.so\.0'; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "set-up: libusb is missing, installing libusb-1.0-0"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libusb-1.0-0; } >/dev/null 2>&1 ||
      echo "set-up: that did not work; RealSense cameras cannot be used until libusb-1.0-0 is installed" >&2
  else
    echo "set-up: libusb is missing; RealSense cameras need the package libusb-1.0-0" >&2
  fi
fi

# The page of `armchair review` is tested in a real browser; nothing else needs one.
if ! command -v chromium >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "set-up: chromium is missing, installing it"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 ||
      echo "set-up: that did not work; the tests of the review page will fail until the package chromium is installed" >&2
  else
    echo "set-up: chromium is missing; the tests of the review page will fail until the package chromium is installed" >&2
  fi
fi

echo "set-up: $("$python" --version) from $(command -v "$python"), environment .venv"
[ -x .bootstrap/bin/uv ] || { "$python" -m venv .bootstrap && .bootstrap/bin/python -m pip install -q --disable-pip-version-check uv; }
.bootstrap/bin/uv venv -q --clear --python "$python" .venv
.bootstrap/bin/uv pip sync -q --python .venv/bin/python requirements.lock
.bootstrap/bin/uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation -e .
echo "$want" > "$stamp"
