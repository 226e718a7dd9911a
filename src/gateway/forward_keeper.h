// The forwards that are in force, and changing them; as rule_keeper.h does with rules, and for the
// same reasons: whoever changes forwards holds forwards.lock, and writes the half of ForwardMemory
// that is not in force.
//
//   forwards.json   the forwards with what they have counted, and the generation that they are
//                   installed as. Written before the datapath is: whoever finds another generation
//                   in force (somebody was killed in between) installs these.
//   forwards.lock   held while forwards are changed
//
//   masq_forwards   a table of nftables, with the datapath in user space alone: it keeps the
//                   gateway's own stack from answering for what is forwarded. Its note is
//                   own_forwards (kept_table.h)
//
// What a forward has counted, and which target serves, is in the datapath; loading takes it into
// the forwards, and a change begins with it. Limits: what is counted in the milliseconds between is
// lost. Who has asked for a triggered forward is kept across changes that leave its control port.
#pragma once

#include <utility>

#include "gateway/any_datapath.h"
#include "gateway/fd.h"
#include "policy/forwards.h"

namespace masq {

struct KeptForwards {
  Forwards forwards;
  u32 generation = 0;  // 0: they are not installed
};

// As they are kept, with what the datapath has counted meanwhile; none kept are none.
Result<KeptForwards> load_forwards(const AnyDatapath* datapath);

// A change: others wait from `begin` until it is gone. Without a datapath what is stored waits for
// `masq up`.
class ForwardChange {
 public:
  static Result<ForwardChange> begin(AnyDatapath* datapath);

  const Forwards& forwards() const { return kept_.forwards; }
  // Puts these in force, or leaves everything as it was.
  Status store(const Forwards& forwards);

 private:
  ForwardChange(Fd lock, KeptForwards kept, AnyDatapath* datapath)
      : lock_(std::move(lock)), kept_(std::move(kept)), datapath_(datapath) {}

  Fd lock_;
  KeptForwards kept_;
  AnyDatapath* datapath_;
};

// For a masqd that begins: those of the configuration in the place of those that the one before it
// had. An error where they do not go together with the others that are kept.
Status replace_configured(AnyDatapath& datapath, const Forwards& configured);

// For masqd: installs what is kept if others are in force, or if the kernel's table is not as it
// should be. Nothing kept changes nothing.
Status keep_forwards(AnyDatapath& datapath);

void take_off_own_forwards();

}  // namespace masq
