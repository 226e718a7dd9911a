// The one way to read a packet: a view of its bytes that hands out headers or nothing.
//
// In the kernel `begin` and `end` are the packet pointers of the program's context, and the
// comparison below is the shape that the verifier understands; in user space they are a buffer.
#pragma once

#include "wire/types.h"

namespace masq {

struct Bytes {
  u8* begin;
  u8* end;
};

// The header of type T at `offset`, or null if it does not lie in the readable bytes whole.
// The limit on the offset is for the verifier: a packet pointer with an unbounded variable part may
// not be compared.
template <class T>
MASQ_INLINE T* header_at(Bytes bytes, u32 offset) {
  offset = opaque(offset);
  if (offset > 0x3fff) return nullptr;
  u8* at = bytes.begin + offset;
  if (at + sizeof(T) > bytes.end) return nullptr;
  return reinterpret_cast<T*>(at);
}

}  // namespace masq
