// Whoever has started masqd in the foreground and wants to hear when the gateway is up: systemd,
// for a unit of Type=notify.
#pragma once

namespace masq {

// Says READY=1 on the datagram socket that NOTIFY_SOCKET names (sd_notify(3)). Without that
// variable, or where nobody listens, nothing happens: the gateway is up all the same.
void tell_supervisor_ready();

}  // namespace masq
