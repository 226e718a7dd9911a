"""What the tests with real programs share: a lab per module, and the watch over its outer net.

A module says with `LAB = {...}` which options its lab has. Whatever its tests do, a capture of all
that the gateway sends outside runs from the first moment to the last, and not one frame of it may
name an inner host. With MASQ_KEEP_CAPTURES=FOLDER in the environment, captures that do are copied
there.
"""

import os
import shutil

import pytest

from frames import inner_addresses_in
from lab import BINARIES, Lab
from services import Services

# Enough for every header and for what an ICMP error quotes.
WATCH_SNAP_BYTES = 600


def pytest_sessionstart():
    if os.geteuid() != 0:
        pytest.exit("the tests in tests/netns need root: they make network namespaces", 1)
    if not (BINARIES / "masq").exists():
        pytest.exit(f"{BINARIES / 'masq'} is not there; build the project first", 1)


def pytest_configure(config):
    config.addinivalue_line("markers", "only_labs(wanted): the test is for those of its module's "
                            "labs of whose options wanted() is true")


def pytest_generate_tests(metafunc):
    """A module with `DATAPATHS` runs once with each of them, and that with each of its `LABS`; one
    that names its datapath runs with that alone."""
    module = metafunc.module
    if not hasattr(module, "DATAPATHS") or "lab" not in metafunc.fixturenames:
        return
    if not hasattr(module, "lab_runs"):  # once: what is not the same object gets a lab of its own
        labs = getattr(module, "LABS", {"": {}})
        module.lab_runs = {"-".join(filter(None, (name, path))): options | {"datapath": path}
                           for name, options in labs.items()
                           for path in ([options["datapath"]] if "datapath" in options
                                        else module.DATAPATHS)}
    metafunc.parametrize("lab", list(module.lab_runs.values()), ids=list(module.lab_runs),
                         indirect=True, scope="module")


def pytest_collection_modifyitems(items):
    """Takes out what is not for its lab. Not when the tests are made: pytest puts those together
    that have a lab in common by its place in the list, which must be the same for all of them."""
    for item in list(items):
        only = item.get_closest_marker("only_labs")
        if only is not None and not only.args[0](item.callspec.params["lab"]):
            items.remove(item)


@pytest.fixture(scope="module")
def lab(request):
    """The network, with servers; masq is not running yet."""
    options = dict(getattr(request.module, "LAB", {}))
    if hasattr(request, "param"):
        options |= request.param
    with getattr(request.module, "LAB_CLASS", Lab)(**options) as lab:
        services = Services(lab)
        services.nginx("S2")
        outside = lab.capture_gateway_outside(snap_bytes=WATCH_SNAP_BYTES)
        yield lab
        outside.stop()
        assert outside.dropped == 0, "the watch over the outer net has missed frames"
        assert outside.frames(), "the watch over the outer net has seen nothing at all"
        leaks = inner_addresses_in(outside)
        if leaks and "MASQ_KEEP_CAPTURES" in os.environ:
            shutil.copy(outside.path, os.environ["MASQ_KEEP_CAPTURES"])
        assert not leaks, f"{len(leaks)} frames told the outside of an inner host:\n" + "\n".join(
            leaks[:20])


@pytest.fixture(scope="module")
def masq_up(lab):
    """masq runs on the gateway, as `masq up` starts it."""
    up = lab.masq("up")
    assert up.returncode == 0, up.stdout + up.stderr
    return up


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Beside every failure stands what masq had to say at that moment."""
    outcome = yield
    report = outcome.get_result()
    lab = getattr(item, "funcargs", {}).get("lab")
    if not report.failed or lab is None or report.when != "call":
        return
    try:
        status = lab.masq("status", timeout_s=10)
        report.sections.append(("masq status", status.stdout + status.stderr))
    except Exception as problem:
        report.sections.append(("masq status", f"not to be had: {problem}"))
