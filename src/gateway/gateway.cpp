// Starting, taking over, keeping in step, and taking down. gateway.h says in which order and why.
#include "gateway/gateway.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fstream>
#include <map>

#include "gateway/forward_keeper.h"
#include "gateway/holder.h"
#include "gateway/others.h"
#include "gateway/own_rules.h"
#include "gateway/plan.h"
#include "gateway/requirements.h"
#include "gateway/rule_keeper.h"

namespace masq {
namespace {

struct Hooked {
  TcHook hook;
  Zone zone;
  Program program;
};

// In the order in which they are put on.
constexpr Hooked kHooks[] = {{TcHook::egress, Zone::outside, Program::leaving},
                             {TcHook::ingress, Zone::outside, Program::outside},
                             {TcHook::egress, Zone::inside, Program::entering},
                             {TcHook::ingress, Zone::inside, Program::inside}};

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::optional<Address> first_address(const NetworkState& network, u32 ifindex) {
  for (const Address& address : network.addresses)
    if (address.ifindex == ifindex) return address;
  return std::nullopt;
}

// What may change while the table stays.
void take_over_settings(const Settings& from, Settings& to) {
  copy_live_settings(from, to);
  to.takes_streams = from.takes_streams;
  to.block_ipv6 = from.block_ipv6;
}

// What a take-over cannot change, if it is asked to.
void tell_what_is_kept(const Config& config, const Settings& kept,
                       std::vector<std::string>& remarks) {
  if (config.flows_max != 0 && config.flows_max != kept.flows_max)
    remarks.push_back(
        fmt::format("The running table for {} flows is kept; `masq down` first to change its size.",
                    kept.flows_max));
  if (asks_for_other_ports(config, kept))
    remarks.push_back(
        "The running gateway keeps its external ports; `masq down` first to change them.");
  if (asks_for_other_blocks(config, kept))
    remarks.push_back(
        "The running gateway keeps its port blocks; `masq down` first to change them.");
}

// What was saved of an interface holds for it under another name too.
SavedState with_names_of_now(const NetworkState& network, SavedState state) {
  for (const auto& [name, unused] : state.interfaces.links) {
    const Link* link = link_known_as(network, state.interfaces, name);
    if (link == nullptr || network.link_named(name) != nullptr) continue;
    if (state.qdiscs.erase(name) != 0) state.qdiscs.insert(link->name);
    const std::string before = sysctl_of(name, ""), now = sysctl_of(link->name, "");
    for (auto at = state.sysctls.lower_bound(before);
         at != state.sysctls.end() && at->first.starts_with(before); at = state.sysctls.erase(at))
      state.sysctls[now + at->first.substr(before.size())] = at->second;
  }
  return state;
}

// What a `masq down` or a `masq up` that was killed has left; of another life nothing.
SavedState still_to_undo(const SavedState& state) {
  SavedState left;
  if (!state.of_this_life) return left;
  left.sysctls = state.sysctls;
  left.qdiscs = state.qdiscs;
  left.interfaces.links = state.interfaces.links;
  return left;
}

// From inside to outside, so that at no moment anything passes untranslated.
void take_off_programs(const NetworkState& network) {
  for (auto each = std::rbegin(kHooks); each != std::rend(kHooks); ++each)
    for (const Link& link : network.links) detach_program(link.ifindex, each->hook);
}

void take_off_strangers(const Link& link, std::vector<std::string>& remarks) {
  for (TcHook hook : {TcHook::ingress, TcHook::egress})
    if (detach_strangers(link.ifindex, hook))
      remarks.push_back(
          fmt::format("{} came with programs of another network namespace's gateway; they are "
                      "taken off.",
                      link.name));
}

// In the same order.
void undo(const NetworkState& network, const SavedState& saved) {
  const SavedState state = with_names_of_now(network, saved);
  take_off_programs(network);
  for (const std::string& name : state.qdiscs)
    if (const Link* link = network.link_named(name)) remove_qdisc(link->ifindex);
  end_slow_processes();
  remove_slow_device();
  end_holders();
  restore_sysctls(state);
  take_off_belt();
  take_off_guard();
  take_off_own_rules();
  take_off_own_forwards();
  remove_user_tables();
  remove_run_folder();
}

// The interfaces of the gateway that runs here, by the programs on them or by its tables.
std::vector<std::string> names_of_ours(const NetworkState& network) {
  std::vector<std::string> ours;
  for (const Link& link : network.links)
    if (attached_program(link.ifindex, TcHook::ingress) ||
        attached_program(link.ifindex, TcHook::egress))
      ours.push_back(link.name);
  if (!user_tables_exist()) return ours;
  Result<std::unique_ptr<AnyDatapath>> tables = UserTables::look();
  if (!tables) return ours;
  for (const Interface& interface : (*tables)->interfaces())
    if (const Link* link = network.link_at(interface.ifindex)) ours.push_back(link->name);
  return ours;
}

// Why the kernel cannot carry the packets here; empty if it can.
std::string why_not_in_kernel() {
  if (std::string why = Datapath::why_no_programs(); !why.empty())
    return fmt::format("The kernel lets no BPF programs be loaded here ({}).", why);
  Status status = check_kernel(this_kernel());
  return status ? "" : status.error().sentence;
}

constexpr const char* kInMasqd =
    " So masqd itself carries the packets: slower, and only as long as it runs.";

// What cannot be undone when nobody knows how it was, while what runs still shows where.
std::string what_may_be_left(const NetworkState& network) {
  std::vector<std::string> ours = names_of_ours(network);
  std::vector<std::string> sysctls{"net.ipv4.conf.lo.forwarding"};
  for (const std::string& name : ours)
    for (const char* key : {"forwarding", "arp_announce"})
      sysctls.push_back(fmt::format("net.ipv4.conf.{}.{}", name, key));
  return fmt::format("what it may have left and nobody can put back but you: the sysctls {}{}.",
                     fmt::join(sysctls, ", "),
                     user_tables_exist()
                         ? ""
                         : fmt::format(" and clsact qdiscs on {}",
                                       ours.empty() ? "its interfaces"
                                                    : fmt::format("{}", fmt::join(ours, ", "))));
}

}  // namespace

std::vector<u32> attached_programs(const NetworkState& network) {
  std::vector<u32> ids;
  for (const Link& link : network.links)
    for (TcHook hook : {TcHook::ingress, TcHook::egress})
      if (auto id = attached_program(link.ifindex, hook);
          id && !std::count(ids.begin(), ids.end(), *id))
        ids.push_back(*id);
  return ids;
}

// The list in which a name of ours stands; null for other names.
const std::vector<std::string>* Gateway::list_of(const std::string& name) const {
  for (const auto* names : {&interfaces_.external, &interfaces_.internal, &interfaces_.closed})
    if (contains(*names, name)) return names;
  return nullptr;
}

// Which link each name of ours means: the one of that name, else the one that was last seen under
// it. A link that is ours stays ours under another name: what it is connected to has not changed.
// So one that gets a name of the other side is neither, until it has its own back.
void Gateway::find_links(const NetworkState& network, std::vector<std::string>& remarks) {
  auto& known = interfaces_.links;
  std::erase_if(known, [&](const auto& each) {
    return link_known_as(network, interfaces_, each.first) == nullptr;
  });
  contested_.clear();
  for (const Link& link : network.links) {
    const auto* names = list_of(link.name);
    for (const auto& [was, each] : known) {
      const auto* before = list_of(was);
      if (names == nullptr || each.ifindex != link.ifindex || before == nullptr || before == names)
        continue;
      contested_.push_back(link.name);
      remarks.push_back(
          fmt::format("{} was {} and now has the name of an interface of the other side: it is "
                      "closed until it is called {} again, or until `masq down`.",
                      link.name, was, was));
      break;
    }
  }
  for (const Link& link : network.links) {
    const KnownLink now{link.ifindex, link.name, link.kind, link.hardware_address};
    for (auto& [was, each] : known)
      if (each.ifindex == link.ifindex) each = now;
    if (list_of(link.name) != nullptr && !contains(contested_, link.name)) known[link.name] = now;
  }
}

const Link* Gateway::our_link(const NetworkState& network, const std::string& name) const {
  const Link* link = link_known_as(network, interfaces_, name);
  if (link == nullptr || contains(contested_, link->name)) return nullptr;
  return link->name == name || list_of(link->name) == nullptr ? link : nullptr;
}

Zone Gateway::zone_of(const NetworkState& network, const Link& link) const {
  for (const std::string& name : interfaces_.external)
    if (const Link* ours = our_link(network, name); ours && ours->ifindex == link.ifindex)
      return Zone::outside;
  for (const std::string& name : interfaces_.internal)
    if (const Link* ours = our_link(network, name); ours && ours->ifindex == link.ifindex)
      return Zone::inside;
  return Zone::other;
}

Result<Gateway> Gateway::start(const Config& config, std::vector<std::string>& remarks) {
  Result<NetworkState> network = read_network();
  if (!network) return network.error();
  Result<SavedState> saved = load_state();
  if (!saved)
    return error("{} `masq down` removes masq all the same, and says so.", saved.error().sentence);
  SavedState state = *saved;
  Running running{attached_programs(*network), user_tables_exist()};
  if (!running.anything() && !holder_lives(state.holder)) state = still_to_undo(state);
  Result<ChosenInterfaces> chosen = choose_interfaces(config, *network, state.interfaces);
  if (!chosen) return chosen.error();

  Config decided = config;
  if (config.ipv6 == Ipv6Mode::automatic) {
    if (!running.anything()) state.ipv6_left = ipv6_is_forwarded();
    decided.ipv6 = state.ipv6_left ? Ipv6Mode::leave : Ipv6Mode::block;
  } else {
    state.ipv6_left = config.ipv6 == Ipv6Mode::leave;
  }
  Result<Settings> settings = settings_for(decided);
  if (!settings) return settings.error();
  if (decided.take_over_streams)
    if (Status status = keep_secret(settings->secret); !status) return status.error();
  if (Datapath::is_remnant(running.programs)) {
    take_off_programs(*network);
    running.programs.clear();
    remarks.push_back(
        "What was left of a gateway here was without its tables: it is taken off, and all flows "
        "had to be given up.");
  }
  Gateway gateway;
  if (Status status = gateway.choose_datapath(config, running, *settings, remarks); !status) {
    if (!running.anything()) remove_user_tables();
    return status.error();
  }
  if (running.anything()) {
    Settings& kept = gateway.datapath().settings();
    tell_what_is_kept(config, kept, remarks);
    take_over_settings(*settings, kept);
    set_host_limits(kept, config);
    remarks.push_back(fmt::format("Took over the running gateway with {} flows.",
                                  gateway.datapath().tables().shared->flows));
  }
  for (const std::string& remark : chosen->remarks) remarks.push_back(remark);

  gateway.interfaces_ = *chosen;
  gateway.external_addresses_ = config.external_addresses;
  gateway.state_ = state;
  gateway.state_.interfaces = *chosen;
  Result<Forwards> forwards = configured_forwards(config);
  Status status =
      forwards ? replace_configured(gateway.datapath(), *forwards) : Status(forwards.error());
  // Put in force by the first reconciling, before the first packet.
  if (status) status = replace_configured_rules(config);
  if (status) status = gateway.begin(remarks);
  if (!status) {
    gateway.user_.reset();  // carries nothing any more
    gateway.slow_device_ = {};
    if (!running.anything()) undo(*network, gateway.state_);  // nothing half done
    return status.error();
  }
  if (needs_belt(gateway.datapath().settings()))
    remarks.push_back(
        "The kernel forwards on this machine, and masq leaves that on; the nftables table "
        "masq_belt keeps inside and outside apart.");
  if (state.ipv6_left)
    remarks.push_back("IPv6 between inside and outside is left to the kernel, as it was before.");
  for (const std::string& remark : remarks_on_other_filters()) remarks.push_back(remark);
  return gateway;
}

AnyDatapath& Gateway::datapath() const {
  if (user_) return *user_;
  return const_cast<Datapath&>(*tc_);
}

Status Gateway::use_user_space(const Running& running, const Settings& settings,
                               std::vector<std::string>& remarks) {
  bool damaged = false;
  Result<std::unique_ptr<UserDatapath>> datapath = running.in_user_space
                                                       ? UserDatapath::take_over(settings, damaged)
                                                       : UserDatapath::make(settings);
  if (!datapath) return datapath.error();
  user_ = std::move(*datapath);
  if (damaged)
    remarks.push_back("masqd died while it changed its tables, so all flows had to be given up.");
  return Done{};
}

// What runs already is taken over; otherwise what was asked for, or what the kernel lets us have.
Status Gateway::choose_datapath(const Config& config, const Running& running,
                                const Settings& settings, std::vector<std::string>& remarks) {
  const bool wants_user = config.datapath == "user", wants_tc = config.datapath == "tc";
  if ((wants_tc && running.in_user_space) || (wants_user && !running.programs.empty()))
    return error("The gateway that runs here uses the datapath {}; `masq down` ends it.",
                 running.in_user_space ? "user" : "tc");
  if (wants_user || running.in_user_space) return use_user_space(running, settings, remarks);
  if (running.programs.empty()) {
    end_holders();  // of another life: what they hold is not what will be loaded
    const std::string why = why_not_in_kernel();
    if (!why.empty() && wants_tc) return Error{why};
    if (!why.empty()) {
      remarks.push_back(why + kInMasqd);
      return use_user_space(running, settings, remarks);
    }
  }
  Result<Datapath> datapath =
      running.programs.empty() ? Datapath::load(settings) : Datapath::adopt(running.programs);
  if (!datapath) return datapath.error();
  tc_ = std::move(*datapath);
  // An older masqd's holds a sweeper that nobody finds any more; two may not run.
  if (!tc_->found_all_maps()) end_holders();
  return Done{};
}

Status Gateway::keep_holder() {
  if (user_ || holder_lives(state_.holder)) return Done{};
  Result<int> holder = start_holder(tc_->map_fds());
  if (!holder) return holder.error();
  state_.holder = *holder;
  return Done{};
}

constexpr const char* kWithoutSlowPath =
    "So fragments that come before the first one of their datagram are refused, and what would "
    "have to be cut.";

// The device with its program, and the process behind it. Without them only what needs them is
// refused, so their failure is a remark.
void Gateway::keep_slow_path(const NetworkState& network, std::vector<std::string>& remarks) {
  if (user_) return;
  if (Status status = set_up_slow_path(network); !status) {
    remarks.push_back(fmt::format("{} {}", status.error().sentence, kWithoutSlowPath));
    datapath().settings().slow_ifindex = 0;  // all of it again at the next look
  }
}

Status Gateway::set_up_slow_path(const NetworkState& network) {
  Settings& s = datapath().settings();
  const Link* link = network.link_named(kSlowName);
  if (link == nullptr || link->ifindex != s.slow_ifindex) {
    s.slow_ifindex = 0;
    slow_device_ = {};
    if (link != nullptr && link->kind != "tun")
      return error("There is an interface {} that is not masq's.", kSlowName);
    end_slow_processes();
    Result<SlowDevice> device = open_slow_device();
    if (!device) return device.error();
    slow_device_ = std::move(*device);
  } else if (!link->up || link->mtu != kSlowMtu) {
    if (Status status = configure_slow_device(); !status) return status;
  }
  u32 ifindex = slow_device_.ifindex != 0 ? slow_device_.ifindex : link->ifindex;
  if (attached_program(ifindex, TcHook::ingress) !=
      program_id(tc_->program_fd(Program::from_slow))) {
    bool made_qdisc = false;  // goes with the device
    Status status =
        attach_program(ifindex, TcHook::ingress, tc_->program_fd(Program::from_slow), made_qdisc);
    if (!status) return error("{}: {}", kSlowName, status.error().sentence);
  }
  s.slow_ifindex = ifindex;
  if (slow_process_lives(slow_process_)) return Done{};
  slow_process_ = find_slow_process();
  return slow_process_ != 0 ? Done{} : start_slow_path();
}

Status Gateway::start_slow_path() {
  if (!slow_device_.fd) {  // another daemon had opened it
    Result<SlowDevice> device = open_slow_device();
    if (!device) return device.error();
    slow_device_ = std::move(*device);
  }
  Result<int> process = start_slow_process(slow_device_.fd);
  if (!process) return process.error();
  slow_process_ = *process;
  slow_started_ms_ = monotonic_ns() / 1000000;
  return Done{};
}

void Gateway::look_after_slow_path(std::vector<std::string>& remarks) {
  if (user_ || datapath().settings().slow_ifindex == 0) return;
  bool lives = slow_process_lives(slow_process_);
  const Ticks hung = ticks_from_ns(kSlowHung_ms * 1000000);
  bool silent = elapsed(datapath().now(), datapath().tables().shared->slow_beat, hung) &&
                monotonic_ns() / 1000000 - slow_started_ms_ > kSlowHung_ms;
  if (lives && !silent) return;
  remarks.push_back(lives ? "The process of the slow path hung; it is started anew."
                          : "The process of the slow path has ended; it is started anew.");
  end_slow_processes();
  if (Status status = start_slow_path(); !status) {
    remarks.push_back(status.error().sentence);
    datapath().settings().slow_ifindex = 0;  // until all is looked at again
  }
}

Status Gateway::begin(std::vector<std::string>& remarks) {
  // Before anything is changed: what was there is known, whenever we are killed.
  if (Status status = save_state(state_); !status) return status;
  if (Status status = datapath().start_sweeper(); !status) return status;
  if (!user_) take_off_own_forwards();  // of a gateway in user space that nobody has taken down
  return reconcile(remarks);
}

// Who is found to be inside is so only until a default route leads there: then the outside may be
// behind it. It stays out of the inside, whatever becomes of the route, until somebody names it.
void Gateway::take_out_uplinks(const NetworkState& network, std::vector<std::string>& remarks) {
  std::vector<std::string> stay;
  for (const std::string& name : interfaces_.internal) {
    const Link* link = our_link(network, name);
    bool out = interfaces_.internal_found && link != nullptr && network.is_uplink(link->ifindex);
    (out ? interfaces_.closed : stay).push_back(name);
  }
  interfaces_.internal = stay;
  for (const std::string& name : interfaces_.closed)
    remarks.push_back(fmt::format(
        "A default route leads through {}, which was only found to be internal: it is closed until "
        "`masq down` and a `masq up` that names it with --external or --internal.",
        name));
}

bool Gateway::look_after_addresses() {
  lost_addresses_.note_replaced(datapath(), [](u32) { return true; });
  const Settings& s = datapath().settings();
  for (u32 i = 0; lacks_place_ && i < kExternalsMax; ++i)
    if (s.externals[i].state != kExternalLive && !external_is_in_use(datapath(), i)) return true;
  return false;
}

bool Gateway::is_to_be_shared(Ipv4 address) const {
  return std::any_of(external_addresses_.begin(), external_addresses_.end(),
                     [&](Ipv4 named) { return same(named, address); });
}

// Which external addresses inner hosts get: of each interface those that were named, else its
// first.
void Gateway::choose_serving(const NetworkState& network, std::vector<std::string>& remarks) {
  Settings& s = datapath().settings();
  std::set<u32> with_named;
  for (const External& e : s.externals)
    if (e.state == kExternalLive && is_to_be_shared(e.address)) with_named.insert(e.ifindex);
  for (External& e : s.externals) {
    std::optional<Address> first = first_address(network, e.ifindex);
    bool is_first = first && same(first->address, e.address);
    e.serves = with_named.contains(e.ifindex) ? is_to_be_shared(e.address) : is_first;
  }
  for (Ipv4 named : external_addresses_)
    if (std::none_of(network.addresses.begin(), network.addresses.end(), [&](const Address& a) {
          const Link* link = network.link_at(a.ifindex);
          return same(a.address, named) && link && zone_of(network, *link) == Zone::outside;
        }))
      remarks.push_back(
          fmt::format("{} is to be shared, but no external interface has it.", to_text(named)));
}

// The addresses in the order in which they get places: those that are to be shared, then the first
// of each interface, then the rest.
std::vector<Address> Gateway::by_importance(const NetworkState& network) const {
  auto rank_of = [&](const Address& a) {
    if (is_to_be_shared(a.address)) return 0;
    std::optional<Address> first = first_address(network, a.ifindex);
    return first && same(first->address, a.address) ? 1 : 2;
  };
  std::vector<Address> addresses;
  for (int rank : {0, 1, 2})
    for (const Address& address : network.addresses)
      if (rank_of(address) == rank) addresses.push_back(address);
  return addresses;
}

// Another link that has been given a place with this address, in this pass.
const Link* Gateway::link_with(const NetworkState& network, const std::vector<bool>& wanted,
                               const Address& address) const {
  const Settings& s = datapath().settings();
  for (u32 i = 0; i < kExternalsMax; ++i)
    if (wanted[i] && same(s.externals[i].address, address.address) &&
        s.externals[i].ifindex != address.ifindex)
      return network.link_at(s.externals[i].ifindex);
  return nullptr;
}

void Gateway::update_addresses(const NetworkState& network, std::vector<std::string>& remarks) {
  std::map<u32, bpf::OwnAddress> own;
  std::vector<bool> wanted(kExternalsMax, false);
  lacks_place_ = false;
  for (const Address& address : by_importance(network)) {
    const Link* link = network.link_at(address.ifindex);
    bool outer = link != nullptr && zone_of(network, *link) == Zone::outside;
    bpf::OwnAddress kind = outer ? bpf::kOwnOuter : bpf::kOwnOther;
    for (Ipv4 each : {address.address, address.broadcast})
      if (each.be != 0 && !(own.contains(each.be) && own[each.be] == bpf::kOwnOuter))
        own[each.be] = kind;
    if (!outer) continue;
    if (const Link* other = link_with(network, wanted, address)) {
      remarks.push_back(
          fmt::format("{} is an address of {} and of {}; masq can use it on one of them, and that "
                      "is {}.",
                      to_text(address.address), other->name, link->name, other->name));
      continue;
    }
    u32 place = take_external(datapath(), address.address, address.ifindex);
    if (place < kExternalsMax)
      wanted[place] = true;
    else if (LostAddresses::give_up_oldest(datapath()))
      lacks_place_ = true;  // for some seconds
    else
      remarks.push_back(
          fmt::format("{} is one external address too many; {} can be in use at once.",
                      to_text(address.address), kExternalsMax));
  }
  Settings& s = datapath().settings();
  for (u32 i = 0; i < kExternalsMax; ++i)
    if (s.externals[i].state == kExternalLive && !wanted[i])
      LostAddresses::note_gone(datapath(), i);
  choose_serving(network, remarks);
  lost_addresses_.note_replaced(datapath(),
                                [&](u32 ifindex) { return network.link_at(ifindex) != nullptr; });
  // Should not all fit: without an external one the gateway would be off the net.
  OwnAddresses in_order;
  for (bpf::OwnAddress kind : {bpf::kOwnOuter, bpf::kOwnOther})
    for (const Address& address : by_importance(network))
      for (Ipv4 each : {address.address, address.broadcast})
        if (auto at = own.find(each.be); at != own.end() && at->second == kind) {
          in_order.push_back(*at);
          own.erase(at);
        }
  if (Status status = datapath().set_own_addresses(in_order); !status)
    remarks.push_back(status.error().sentence);
}

// The bit that stands for the interface in rules: the one that it has, or one that nobody has.
u8 Gateway::rule_bit_for(u32 ifindex) const {
  u32 used = 0;
  for (const Interface& each : datapath().interfaces()) {
    if (each.ifindex == ifindex && each.rule_bit != 0) return each.rule_bit;
    if (each.rule_bit != 0) used |= 1u << (each.rule_bit - 1);
  }
  for (u8 bit = 0; bit < kRuleInterfacesMax; ++bit)
    if ((used >> bit & 1) == 0) return static_cast<u8>(bit + 1);
  return 0;
}

Status Gateway::enter_interface(const NetworkState& network, const Link& link, Zone zone,
                                std::vector<std::string>& remarks) {
  int header = link_header_length(link);
  if (header < 0) return error("{} has become a device that masq does not know.", link.name);
  Interface interface = {};
  interface.ifindex = link.ifindex;
  interface.zone = zone;
  interface.link_header_length = static_cast<u8>(header);
  interface.mtu = link.mtu;
  interface.external = kExternalsMax;
  interface.kernel.forwards = read_sysctl(sysctl_of(link.name, "forwarding")) == "1";
  interface.rule_bit = rule_bit_for(link.ifindex);
  std::optional<Address> address = first_address(network, link.ifindex);
  if (address) interface.address = address->address;
  if (zone == Zone::outside) {
    const Settings& s = datapath().settings();
    for (u32 i = 0; i < kExternalsMax; ++i)
      if (s.externals[i].state == kExternalLive && s.externals[i].serves &&
          s.externals[i].ifindex == link.ifindex)
        interface.external = i;
    if (!address)
      remarks.push_back(fmt::format(
          "{} has no IPv4 address: nothing passes until it has one, then all by itself.",
          link.name));
  }
  return datapath().set_interface(interface);
}

Status Gateway::attach(const Link& link, TcHook hook, Program program) {
  if (user_) return hook == TcHook::ingress ? user_->carry(link) : Done{};
  if (attached_program(link.ifindex, hook) == program_id(tc_->program_fd(program))) return Done{};
  bool made_qdisc = false;
  Status status = attach_program(link.ifindex, hook, tc_->program_fd(program), made_qdisc);
  if (made_qdisc) state_.qdiscs.insert(link.name);
  if (!status) return error("{}: {}", link.name, status.error().sentence);
  return Done{};
}

// Takes masq off interfaces that are ours no longer, and the masq of other network namespaces off
// all. Those of others, which may be many, are looked at when they are seen for the first time, and
// once a minute.
void Gateway::remove_others(const NetworkState& network, std::vector<std::string>& remarks) {
  constexpr u64 kLookAgain_ms = 50000;
  const u64 now_ms = monotonic_ns() / 1000000;
  if (now_ms - looked_ms_ >= kLookAgain_ms) {
    looked_ms_ = now_ms;
    looked_at_.clear();
  }
  std::set<u32> ours, others;
  for (const Link& link : network.links) {
    const bool other = zone_of(network, link) == Zone::other;
    (other ? others : ours).insert(link.ifindex);
    if (looked_at_.contains(link.ifindex)) continue;
    take_off_strangers(link, remarks);
    if (user_ || !other || link.ifindex == datapath().settings().slow_ifindex) continue;
    for (const Hooked& each : kHooks)
      if (attached_program(link.ifindex, each.hook)) detach_program(link.ifindex, each.hook);
  }
  looked_at_ = others;
  for (const Interface& interface : datapath().interfaces()) {
    const Link* link = network.link_at(interface.ifindex);
    if (link == nullptr || zone_of(network, *link) == Zone::other)
      datapath().remove_interface(interface.ifindex);
  }
  if (user_) user_->keep_only(ours);
}

Status Gateway::reconcile(std::vector<std::string>& remarks) {
  Result<NetworkState> network = read_network();
  if (!network) return network.error();
  std::vector<std::string> found;
  Status result = keep_holder();
  find_links(*network, found);
  take_out_uplinks(*network, found);
  if (Status status = close_kernel_path(*network, found); !status) result = status;
  if (Status status = datapath().set_clock(); !status) result = status;
  remove_others(*network, found);
  // Without it the kernel would answer in place of inner hosts: then nothing new is carried.
  if (Status status = keep_guard(*network); !status) return status;
  update_addresses(*network, found);
  for (const Hooked& each : kHooks) {
    const auto& names = each.zone == Zone::outside ? interfaces_.external : interfaces_.internal;
    for (const std::string& name : names) {
      const Link* link = our_link(*network, name);
      if (link == nullptr) {
        found.push_back(fmt::format("{} has gone; masq waits for it to come back.", name));
        continue;
      }
      if (Status status = enter_interface(*network, *link, each.zone, found); !status)
        result = status;
    }
  }
  // Before the first packet of an interface that rules name.
  if (Status status = keep_rules(datapath()); !status) return status;
  if (Status status = keep_forwards(datapath()); !status) return status;
  for (const Hooked& each : kHooks)
    for (const std::string& name :
         each.zone == Zone::outside ? interfaces_.external : interfaces_.internal)
      if (const Link* link = our_link(*network, name); link != nullptr)
        if (Status status = attach(*link, each.hook, each.program); !status) result = status;
  keep_slow_path(*network, found);
  datapath().routes_changed();
  state_.interfaces = interfaces_;
  if (Status status = save_state(state_); !status) result = status;
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  for (const std::string& remark : found)
    if (!contains(said_, remark)) remarks.push_back(remark);
  said_ = found;
  return result;
}

bool gateway_is_there(const NetworkState& network) {
  return !attached_programs(network).empty() || user_tables_exist();
}

Status keep_config(const Config& config) {
  std::string path = run_file("config.toml"), fresh = path + ".new";
  {
    std::ofstream file(fresh);
    file << to_toml(config);
    if (!file.flush()) return error("{} cannot be written ({}).", fresh, strerror(errno));
  }
  if (rename(fresh.c_str(), path.c_str()) != 0)
    return error("{} cannot be written ({}).", path, strerror(errno));
  return Done{};
}

std::string kept_config() {
  std::string kept = run_file("config.toml");
  Result<NetworkState> network = read_network();
  bool there = network && gateway_is_there(*network);
  return there && access(kept.c_str(), R_OK) == 0 ? kept : "";
}

namespace {

// Asks masqd to end, and then makes it.
void end_daemon() {
  for (int number : {SIGTERM, SIGKILL}) {
    const int daemon = daemon_process();
    if (daemon <= 0) return;
    kill(daemon, number);
    for (int tries = 0; tries < 50 && daemon_process() == daemon; ++tries) {
      timespec pause{0, 100 * 1000 * 1000};
      nanosleep(&pause, nullptr);
    }
  }
}

}  // namespace

Result<std::vector<std::string>> take_down() {
  std::vector<std::string> remarks;
  end_daemon();
  // Held to the end, so that no daemon starts over what is being taken away.
  if (Status status = make_run_folder(); !status) return status.error();
  Result<DaemonLock> lock = take_daemon_lock();
  if (!lock) return lock.error();
  if (lock->owner != 0) return error("masqd (process {}) does not end.", lock->owner);
  Result<NetworkState> network = read_network();
  if (!network) return network.error();
  Result<SavedState> saved = load_state();
  // The last also after a `masq down` that was killed half-way.
  const bool is_there = gateway_is_there(*network) || find_holder() != 0 ||
                        find_slow_process() != 0 || (saved && saved->of_this_life);
  if (is_there && access(run_file("state.json").c_str(), F_OK) != 0)
    saved = error("{} has gone.", run_file("state.json"));
  SavedState state;
  if (saved)
    state = *saved;
  else
    remarks.push_back(saved.error().sentence);
  if (!is_there) {
    remove_run_folder();
    remarks.push_back("masq was not running here.");
    return remarks;
  }
  std::string left = saved ? "" : what_may_be_left(*network);
  undo(*network, state);
  remarks.push_back(saved ? "masq is down; every trace is removed." : "masq is down; " + left);
  if (machine_forwards())
    remarks.push_back(
        "The kernel forwards on this machine, as it did before masq: inner hosts are no "
        "longer hidden.");
  if (ipv6_is_forwarded() && !state.ipv6_left)
    remarks.push_back("The kernel forwards IPv6 on this machine: masq blocks it no longer.");
  return remarks;
}

}  // namespace masq
