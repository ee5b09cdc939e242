// SPDX-License-Identifier: MIT
//
// VmFolder: the folder vmN of one VM in a share of the old file protocol, which the VM can change
// at any time. Only regular files directly in this folder are read and written: symbolic links are
// not followed, FIFOs and devices are not opened, and a file with other hard links is not written.
//
// File access may block for as long as the file system does not answer (an NFS server that is
// down). One thread at a time.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace vgpu {

// A request file with content, open for reading.
struct FoundRequest {
    Fd file;
    std::string content;  // at most kMostFileLine + 1 bytes
};

class VmFolder {
  public:
    // Opens `name` in the folder `root`, which is borrowed. `shown` is its path for messages.
    static Result<VmFolder> open(int root, const std::string& name, std::string shown);

    // For inotify_add_watch(), by way of /proc/self/fd. Borrowed.
    [[nodiscard]] int descriptor() const { return folder_.get(); }
    // True if the folder is no longer found by this path.
    [[nodiscard]] bool replaced(const std::string& path) const;

    // Reads request.txt. Returns nothing if it does not exist or is empty. Changes nothing, so that
    // the kernel reports no change. Errno EWOULDBLOCK, also of the functions below: another process
    // holds a lease on the file, and has been asked to give it up.
    [[nodiscard]] Result<std::optional<FoundRequest>> find_request() const;
    // Truncates the request file.
    Result<void> clear(const FoundRequest& request) const;
    // Replaces the content of response.txt, which is created if it does not exist.
    Result<void> write_response(std::string_view line) const;

  private:
    VmFolder(Fd folder, std::string shown) : folder_(std::move(folder)), shown_(std::move(shown)) {}

    // Opens a regular file of the folder. Empty: it does not exist.
    [[nodiscard]] Result<Fd> open_file(const char* name, int flags) const;
    // "PATH/NAME what: the error; the remedy".
    [[nodiscard]] Error failed(const char* name, const char* what, int error) const;

    Fd folder_;
    std::string shown_;
};

}  // namespace vgpu
