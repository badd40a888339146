"""lm-evaluation-harness in an environment of its own, with the torch that lmtasks is tested with.

python benchmarks/peers/lm_eval_setup.py [--folder runs/peers/venv]
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSION = "0.4.13"
DEFAULT = ROOT / "runs" / "peers" / "venv"


def set_up(folder: Path) -> Path:
    """Its Python; made once, then found again.

    Raises:
        SystemExit: pip could not install it.
    """
    python = folder / "bin" / "python"
    if not installed(python):
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        constraints = ["-c", str(ROOT / "constraints.txt")]
        wanted = [f"lm-eval[hf]=={VERSION}", "torch", "scikit-learn", "sacrebleu", "psutil"]
        done = subprocess.run([str(python), "-m", "pip", "install", *constraints, *wanted], check=False)
        if done.returncode or not installed(python):
            raise SystemExit(f"lm-eval {VERSION} could not be installed in {folder}; pip says why above.")
    return python


def installed(python: Path) -> bool:
    """Does this environment hold that version?"""
    if not python.is_file():
        return False
    asked = "import importlib.metadata as m; print(m.version('lm-eval'))"
    said = subprocess.run([str(python), "-c", asked], capture_output=True, text=True, check=False)
    return said.stdout.strip() == VERSION


def task_files(python: Path) -> Path:
    """The folder of its own task files."""
    asked = "import importlib.util as u; print(u.find_spec('lm_eval').submodule_search_locations[0])"
    said = subprocess.run([str(python), "-c", asked], capture_output=True, text=True, check=True)
    return Path(said.stdout.strip()) / "tasks"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=DEFAULT)
    print(set_up(parser.parse_args().folder))
