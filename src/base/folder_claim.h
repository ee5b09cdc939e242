// SPDX-License-Identifier: MIT
#pragma once

#include "base/fd.h"

namespace vgpu {

// Claims a folder for a purpose, for as long as the returned descriptor is open, against other
// processes of this network namespace. Empty if that fails: errno is EADDRINUSE if another process
// has the claim. Borrows the folder.
//
// The claim is the name of a socket, not a lock of a file: an NFS client that loses a lock can no
// longer write to the file.
Fd claim_folder(const char* purpose, int folder);

}  // namespace vgpu
