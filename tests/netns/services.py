"""Real servers on the hosts of the lab: nginx, dnsmasq, iperf3, sshd."""

import hashlib
import os
import pathlib
import subprocess

from lab import ADDRESS, MADE_RUN_SSHD, wait_until

FILE_BYTES = {"1k": 1_000, "100k": 100_000, "1m": 1_000_000, "5m": 5_000_000, "20m": 20_000_000}
SLOW_BYTES_PER_S = 4_000_000  # what nginx allows a transfer of /slow/...

NGINX = """
daemon off;
user root;
worker_processes 1;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log;
events {{ worker_connections 512; }}
http {{
  log_format who '$remote_addr $remote_port $request_method $uri $status $body_bytes_sent';
  access_log {prefix}/access.log who;
  client_body_temp_path {prefix}/body;
  client_max_body_size 100m;
  proxy_temp_path {prefix}/proxy;
  fastcgi_temp_path {prefix}/fastcgi;
  uwsgi_temp_path {prefix}/uwsgi;
  scgi_temp_path {prefix}/scgi;
  server {{
    listen 80 reuseport backlog=256;
    root {files};
    location = /whoami {{ default_type text/plain; return 200 "$remote_addr $remote_port\\n"; }}
    location /slow/ {{ alias {files}/; limit_rate {slow}; }}
    location /upload/ {{ root {prefix}; dav_methods PUT; create_full_put_path on; }}
  }}
}}
"""

DNS_NAMES = {"www.lab": ADDRESS["S2"], "i1.lab": ADDRESS["I1"]}


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


class Services:
    """Starts servers in a lab; they end with it."""

    def __init__(self, lab):
        self.lab = lab
        lab.services = self
        self.files = lab.directory / "files"

    def start_all(self):
        self.nginx("S2")
        self.nginx("I1")
        self.dnsmasq("S2")
        self.iperf3("S2")
        self.sshd("B")

    def _start(self, host, argv, name):
        with open(self.lab.directory / f"{host}-{name}.log", "w") as log:
            return self.lab.popen(host, argv, stdout=log)

    def _wait_for_tcp(self, host, port, name):
        def listens():
            return self.lab.run(host, ["ss", "-Hltn", f"sport = :{port}"]).stdout
        wait_until(listens, f"{name} on {host} listens", timeout_s=10)

    def _make_files(self):
        """Text only, so that four bytes of it are never an address."""
        if self.files.exists():
            return
        self.files.mkdir()
        for name, size in FILE_BYTES.items():
            line = b"%-15s %015d\n"
            text = b"".join(line % (name.encode(), i) for i in range(size // 32 + 1))
            (self.files / name).write_bytes(text[:size])

    def sha256_of(self, name):
        return sha256(self.files / name)

    def nginx(self, host):
        self._make_files()
        prefix = self.lab.directory / f"nginx-{host}"
        prefix.mkdir()
        (prefix / "upload").mkdir()
        configuration = prefix / "nginx.conf"
        configuration.write_text(NGINX.format(prefix=prefix, files=self.files,
                                              slow=SLOW_BYTES_PER_S))
        self._start(host, ["nginx", "-p", prefix, "-c", configuration, "-e", prefix / "error.log"],
                    "nginx")
        self._wait_for_tcp(host, 80, "nginx")

    def access_log(self, host):
        """(client address, client port, method, path, status, bytes) of every request so far."""
        log = self.lab.directory / f"nginx-{host}" / "access.log"
        return [tuple(line.split()) for line in log.read_text().splitlines()]

    def uploaded(self, host, name):
        return self.lab.directory / f"nginx-{host}" / "upload" / name

    def dnsmasq(self, host, *options):
        names = [f"--host-record={name},{address}" for name, address in DNS_NAMES.items()]
        server = self._start(host, ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
                                    "--user=root", "--pid-file=", "--no-resolv", "--no-hosts",
                                    "--log-facility=-", *(options or names)], "dnsmasq")
        if "--port=0" not in options:
            self._wait_for_tcp(host, 53, "dnsmasq")
        return server

    def iperf3(self, host):
        self._start(host, ["iperf3", "-s"], "iperf3")
        self._wait_for_tcp(host, 5201, "iperf3")

    def sshd(self, host):
        """Takes the key that `ssh_argv` uses, and no other; has a host key of its own."""
        directory = self.lab.directory / f"sshd-{host}"
        directory.mkdir(mode=0o700)
        for key in ("host_key", "client_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / key],
                           check=True, timeout=20)
        (directory / "sshd_config").write_text(f"""
Port 22
HostKey {directory}/host_key
PidFile none
AuthorizedKeysFile {directory}/client_key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM yes
UseDNS no
PrintMotd no
PrintLastLog no
""")
        if not os.path.isdir("/run/sshd"):
            os.mkdir("/run/sshd", 0o755)
            (self.lab.directory / MADE_RUN_SSHD).touch()
        self._start(host, ["/usr/sbin/sshd", "-D", "-e", "-f", directory / "sshd_config"], "sshd")
        self._wait_for_tcp(host, 22, "sshd")

    def ssh_argv(self, address, *remote_command):
        key = self.lab.directory / "sshd-B" / "client_key"
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes",
                   "LogLevel=ERROR", "ConnectTimeout=5")
        return ["ssh", "-F", "none", "-i", key, *(word for o in options for word in ("-o", o)),
                f"root@{address}", *remote_command]


def curl_argv(url, *options, timeout_s=15):
    return ["curl", "--silent", "--show-error", "--fail", "--max-time", timeout_s, *options, url]


def nslookup_argv(name, server=ADDRESS["S2"]):
    return ["busybox", "nslookup", "-type=a", name, server]
