"""A link that is dialled when the first packet comes, as diald did it: until then the default route
leads to a device that carries nothing but has an address."""

import time
from concurrent.futures import ThreadPoolExecutor

from lab import ADDRESS, GATEWAY_OUTER

DATAPATHS = ["tc", "user"]
S2 = ADDRESS["S2"]
DUMMY_ADDRESS, FAR_END = "10.99.0.1", "10.99.0.2"


def test_the_first_connection_goes_on_when_the_link_comes_up(lab):
    lab.ip("B", "link add dial0 type veth peer name nowhere",
           "link set nowhere up", f"addr add {DUMMY_ADDRESS}/32 dev dial0",
           "link set dial0 up", f"addr del {GATEWAY_OUTER}/24 dev out0",
           f"neigh add {FAR_END} lladdr 02:00:0a:63:00:02 dev dial0",
           f"route replace default via {FAR_END} dev dial0 onlink")
    up = lab.masq("up", "--external", "dial0", "--external", "out0", "--internal", "in0")
    assert up.returncode == 0, up.stdout + up.stderr
    listener, client = lab.tcp("S2", 9120, listen=True), lab.tcp("S6", timeout_s=15)
    dialled = lab.capture("B", "dial0", filter_="tcp")
    with ThreadPoolExecutor() as pool:
        connecting = pool.submit(client.connect, (S2, 9120))
        time.sleep(0.5)
        assert not connecting.done()
        assert {p["IP"].src for p in dialled.packets()} == {DUMMY_ADDRESS}
        lab.ip("B", f"addr add {GATEWAY_OUTER}/24 dev out0",
               "route replace default via 192.168.1.250")
        connecting.result(timeout=15)
    server, who = listener.accept()
    assert who[0] == GATEWAY_OUTER
    client.sendall(b"hello")
    assert server.recv(5) == b"hello"
