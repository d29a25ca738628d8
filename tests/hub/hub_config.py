"""The hub of deploy/, with what has to differ in a test. FOR TESTS ONLY: see the warning it prints.

Whoever knows the one password is any student, and all students are the same system user.
"""

import os
from pathlib import Path

from traitlets.log import get_logger

c = get_config()  # noqa: F821 (JupyterHub puts it here)
load_subconfig(os.environ["HUB_PRODUCTION_CONFIG"])  # noqa: F821

get_logger().warning(
    "FOR TESTS ONLY: one password opens every account (SharedPasswordAuthenticator), and all students are the same "
    "system user (SimpleLocalProcessSpawner)."
)
folder = Path.cwd()
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = os.environ["HUB_PASSWORD"]
c.Authenticator.allowed_users = {"student1", "student2"}
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = str(folder / "home" / "{username}")
c.Spawner.args.append("--allow-root")  # a container that runs tests is often root's

# Loopback only, on ports that were free; nothing outside this folder.
proxy_port, api_port, hub_port = os.environ["HUB_PORTS"].split()
c.JupyterHub.bind_url = f"http://127.0.0.1:{proxy_port}"
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{api_port}"
c.ConfigurableHTTPProxy.command = [os.environ["HUB_PROXY"]]
c.ConfigurableHTTPProxy.pid_file = str(folder / "proxy.pid")
c.JupyterHub.hub_port = int(hub_port)
c.JupyterHub.db_url = f"sqlite:///{folder / 'hub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(folder / "cookie_secret")

# The kernels reach no network either: conftest.py has set these.
closed = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "NO_PROXY", "no_proxy")
c.Spawner.environment.update({name: os.environ[name] for name in closed if name in os.environ})
