// What the core asks of the shell that it is compiled into. Both shells have a type with these
// members; the core takes it as a template parameter, so nothing is called through a pointer.
//
//   Tables tables;  const Settings& settings;  Ticks now;
//   u32 ifindex;             the interface where the packet came in
//   Interface interface;     what is known of it
//
//   bool lock(u32 stripe); void unlock();
//       One stripe lock at a time; false only if there is no such stripe. Nothing of what follows
//       is called while it is held.
//   void route(Ipv4 destination, Ipv4 source, Route& out);
//       The gateway's own routing decision.
//   bool port_has_socket(u8 protocol, Ipv4 address, Port port, Ipv4 remote, Port remote_port);
//       Would a packet from this remote TCP or UDP endpoint find a socket of the gateway? With an
//       empty remote endpoint: does one listen on, or is one bound to, the port for everybody?
//   bool is_outer_address(Ipv4 address);
//       An address of an external interface, or a broadcast address there.
//   NewFlow new_flow; Making making;
//       The flow being made. They may be references.
//   u64 rank_external(u32 place, Ipv4 host, u32 external, u32 i);
//   Reason hold_host(); void settle_host(Reason reason);
//   Reason prepare_flow(); Reason link_flow();
//   void take_off_flow(u32 index); void take_off_waiting(u32 index);
//   void find_port_words();
//   u32 choose_port(u32 i); u32 take_chosen(u32 i, u32 chosen); u32 choose_shared_port(u32 i);
//   bool is_taken_outside(u32 port);
//   SlowSide slow; FragmentFound fragment;
//       How the packet stands to the slow path; what is known of its datagram.
//   Reason may_open(const Packet& p);
//   Reason follow(const Packet& p, u32 index, u8 direction, u32 inner_ifindex, Verdict& v);
//       If there are rules, judge_flow comes first.
//   bool is_forged(const Packet& p, Zone wrong); bool is_second_half();
//   u32 hairpin_external(const Packet& p); bool has_own_flow(const Packet& p);
//   Reason no_way(); bool awaits_address();
//   u32 find_fragment(const Packet& p, u32 direction); (calls fragment_find)
//   Verdict hand_over(const Packet& p, u16 mtu, Reason otherwise);
//       Call the functions of these names with the world: the kernel's shell has each of them
//       verified as a function of its own.
//   RuleScratch& rules();
//       What the packet's judgement is made with (judge.h); rules_clear comes before every step.
//   void walk_chain(u32 chain);
//       Walks rules.walk through a built-in chain of the rule set in force.
//   u32 rule_bit(u32 ifindex); void take_down(u32 direction); u32 remember_path();
//   void judge_side(u32 index, u32 direction, u32 inner, bool error);
//   Reason judge_alone(const Packet& p, u32 chain);
//   Reason judge_new(const Packet& p, u32 external);
//   Reason judge_between(const Packet& p, u32 to_ifindex);
//       Call the functions of these names.
//   void count_slots(const Packet& p); void count_path(const Packet& p, u32 path, u32 direction);
//   void count_unremembered(const Packet& p);
//       Count the packet for the slots of rules.walk, or for a path.
//   ForwardMemory* forwards();
//       The forwards; null only where there are none.
//   u32 find_range(u64 wanted);
//       find_range in the forwards in force.
//   ForwardChoice& forward_choice(); void choose_target(const Packet& p, u32 place);
//   u32 forward_of(const Packet& p); bool marks_arrival(const Packet& p);
//   Reason judge_forwarded(const Packet& p, u32 inner_ifindex);
//   Reason make_forwarded(const Packet& p, u32 external); void note_control(const Packet& p);
//   u32 external_for(Ipv4 host, u32 external);
//       Call the functions of these names.
//   u32 largest_datagram(const Packet& p);
//       Bytes of the largest IPv4 datagram that the packet will be on the wire, also if it is a
//       segment that hardware or the kernel will cut.
#pragma once
