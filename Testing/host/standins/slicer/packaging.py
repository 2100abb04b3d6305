"""Stand-in for `slicer.packaging` (Slicer 5.12), written from the fact sheet on packages.

pip itself is what the launcher PythonSlicer runs for `-m pip`: on the host nothing, or a program that the test gives,
see `Host.set_pip`. Progress windows are not imitated.
"""

import importlib.metadata
import logging
import shlex
import sys
import tomllib
from pathlib import Path

import slicer
from packaging.requirements import Requirement

_running = []


def load_requirements(path):
    """The requirements of a file, without comments, empty lines and options."""
    lines = (line.partition(" #")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def load_pyproject_dependencies(path):
    with Path(path).open("rb") as file:
        return [Requirement(line) for line in tomllib.load(file)["project"].get("dependencies", [])]


def pip_check(req):
    """Whether all are met, judged by metadata; markers that do not apply count as met."""
    return all(_isMet(each) for each in _requirements(req))


def pip_ensure(
    requirements,
    constraints=None,
    skip_packages=None,
    prompt_install=True,
    prompt_restart=True,
    requester=None,
    skip_in_testing=True,
    show_progress=True,
):
    """Install what is missing, after asking. Raises RuntimeError where the user declines."""
    missing = [each for each in _requirements(requirements) if not _isMet(each)]
    if not missing:
        return [] if skip_packages else None
    if skip_in_testing and slicer.app.testingEnabled():
        logging.info("testing: nothing is installed, though %s is missing", missing)
        return None
    names = ", ".join(map(str, missing))
    if prompt_install and not slicer.util.confirmOkCancelDisplay(f"{requester or 'A module'} needs {names}. Install?"):
        raise RuntimeError(f"the user declined to install {names}")
    before = {each.name: _version(each.name) for each in missing}
    skipped = pip_install([str(each) for each in missing], constraints=constraints, skip_packages=skip_packages)
    changed = [
        name for name, version in before.items() if version and version != _version(name) and name in sys.modules
    ]
    if prompt_restart and changed and slicer.util.confirmYesNoDisplay(f"{', '.join(changed)} was replaced. Restart?"):
        slicer.util.restart()
    return skipped


def pip_install(
    requirements,
    constraints=None,
    no_deps_requirements=None,
    skip_packages=None,
    blocking=True,
    show_progress=True,
    requester=None,
    parent=None,
    logCallback=None,
    completedCallback=None,
):
    """`pip install`. Raises subprocess.CalledProcessError when blocking; otherwise calls back."""
    if skip_packages and (no_deps_requirements or not blocking):
        raise ValueError("skip_packages goes neither with no_deps_requirements nor with blocking=False")
    arguments = _arguments(requirements)
    if constraints is not None:
        arguments += ["--constraint", str(constraints)]
    skipped = [each for each in arguments if skip_packages and each.partition("=")[0] in skip_packages]
    arguments = [each for each in arguments if each not in skipped]
    _pip(["install", *arguments], blocking and not no_deps_requirements, logCallback, completedCallback)
    if no_deps_requirements:
        _pip(["install", "--no-deps", *_arguments(no_deps_requirements)], blocking, logCallback, completedCallback)
    return skipped if skip_packages else None


def pip_uninstall(requirements, blocking=True, logCallback=None, completedCallback=None):
    _pip(["uninstall", "--yes", *_arguments(requirements)], blocking, logCallback, completedCallback)


def isPipInstallInProgress():
    return bool(_running)


def _pip(arguments, blocking, logCallback, completedCallback):
    if blocking:
        slicer.util.executePythonModule("pip", arguments, logCallback=logCallback)
        return
    if _running:
        raise RuntimeError("an installation is running already")
    _running.append(arguments)

    def completed(returnCode):
        _running.clear()
        if completedCallback is not None:
            completedCallback(returnCode)

    slicer.util.executePythonModule(
        "pip", arguments, blocking=False, logCallback=logCallback, completedCallback=completed
    )


def _arguments(requirements):
    if isinstance(requirements, str):
        return shlex.split(requirements)
    if isinstance(requirements, list):
        return [str(each) for each in requirements]
    raise ValueError(f"requirements are a text or a list, not {requirements!r}")


def _requirements(req):
    if isinstance(req, Requirement):
        return [req]
    if isinstance(req, str):
        return (
            [Requirement(req)] if ";" in req or " " not in req.strip() else [Requirement(each) for each in req.split()]
        )
    if isinstance(req, list):
        return [each for part in req for each in _requirements(part)]
    raise TypeError(f"requirements are texts, Requirement objects or a list of them, not {req!r}")


def _isMet(requirement):
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    version = _version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
