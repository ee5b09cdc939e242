// SPDX-License-Identifier: MIT
//
// Opens files in folders that somebody hostile can change at any time.
#pragma once

#include "base/fd.h"
#include "base/result.h"

namespace vgpu {

// Opens a regular file directly in a folder, without following a symbolic link, and without waiting
// for or acting on anything else that has this name: a FIFO, a device. Rejects files with other
// hard links. Borrows the folder.
//
// Returns an empty descriptor if the file does not exist. The error text is a clause about the
// file, e.g. "is a symbolic link, and is not followed" or "cannot be opened: Permission denied";
// errno is EINVAL for a file that is rejected, EWOULDBLOCK if another process holds a lease on it.
Result<Fd> open_regular_file(int folder, const char* name, int flags);

// Opens the file of an open descriptor again, with other flags.
Fd reopen(int fd, int flags);

}  // namespace vgpu
