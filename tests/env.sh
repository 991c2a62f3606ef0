# Sourced by the scripts of this repository: sets PYTHON to the interpreter that has the package installed.
# HSMX_PYTHON names one; else the virtual environment in the repository's root; else python3.
_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${HSMX_PYTHON:-$_root/.venv/bin/python}
[ -x "$PYTHON" ] || PYTHON=$(command -v python3)
unset _root
