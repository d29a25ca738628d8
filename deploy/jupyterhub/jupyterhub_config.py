"""JupyterHub on one machine: what the course needs of it.

How people log in, which spawner keeps them apart, and HTTPS are the administrator's to choose, in a file of their own
that begins with `load_subconfig("jupyterhub_config.py")`. docs/hub-guide.md goes through it step by step, and
tests/hub really starts a hub with this file. Start one with

    COURSE_DATA_DIR=/srv/course/data jupyterhub --config YOUR_FILE.py
"""

import os
from pathlib import Path

c = get_config()  # noqa: F821 (JupyterHub puts it here)

# The one variable that a student's server needs: the folder with the real data. The course never writes to it; make
# it read-only all the same (docs/hub-guide.md). Fill it once with `python -m course_utils data fetch`.
data = Path(os.environ.get("COURSE_DATA_DIR", ""))
if not data.is_absolute() or not data.is_dir():
    msg = (
        f"COURSE_DATA_DIR is {os.environ.get('COURSE_DATA_DIR', '')!r}, which is no absolute path of a folder. "
        "Set it, for the hub, to the folder with the course's data; docs/hub-guide.md says how to fill it."
    )
    raise SystemExit(msg)
c.Spawner.environment = {"COURSE_DATA_DIR": str(data)}

# What a student gets. JupyterHub only passes these on: SystemdSpawner, DockerSpawner and KubeSpawner enforce them,
# the default LocalProcessSpawner does not. Where they are enforced, the course reads the quota of its control group
# and starts as many threads as it has cores.
c.Spawner.mem_guarantee = "1G"
c.Spawner.mem_limit = "2G"
c.Spawner.cpu_guarantee = 0.25
c.Spawner.cpu_limit = 2

# A class starts at once: all of it loads the same files from a cold disk.
c.Spawner.start_timeout = 180
c.Spawner.http_timeout = 120

# Idle servers make room: a kernel that has computed nothing for two hours ends, open tab or not (a computation is
# never cut short), and a server without kernels ends an hour later. Nothing that was saved is lost.
c.Spawner.args = [
    "--MappingKernelManager.cull_idle_timeout=7200",
    "--MappingKernelManager.cull_interval=300",
    "--MappingKernelManager.cull_connected=True",
    "--ServerApp.shutdown_no_activity_timeout=3600",
]

# The notebooks come by an nbgitpuller link, which opens them in JupyterLab.
c.Spawner.default_url = "/lab"
