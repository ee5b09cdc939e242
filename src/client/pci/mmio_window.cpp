// SPDX-License-Identifier: MIT
#include "client/pci/mmio_window.h"

#include <fcntl.h>

#include <cerrno>

namespace vgpu::client {
namespace {

// A word at any address: `packed` drops the alignment guarantee; on x86 it remains one access and
// costs nothing. The library's own accesses are aligned, those of the self-test are not.
template <typename T>
struct [[gnu::packed, gnu::may_alias]] Word {
    T value;
};

template <typename T>
std::uint64_t load(const std::byte* at) {
    return reinterpret_cast<const volatile Word<T>*>(at)->value;
}

template <typename T>
void store(std::byte* at, std::uint64_t value) {
    reinterpret_cast<volatile Word<T>*>(at)->value = static_cast<T>(value);
}

// Aligned words are accessed without `packed`, so that no machine splits the access.
template <typename T>
bool is_aligned(const std::byte* at) {
    return reinterpret_cast<std::uintptr_t>(at) % sizeof(T) == 0;
}

template <typename T>
std::uint64_t load_any(const std::byte* at) {
    return is_aligned<T>(at) ? *reinterpret_cast<const volatile T*>(at) : load<T>(at);
}

template <typename T>
void store_any(std::byte* at, std::uint64_t value) {
    if (is_aligned<T>(at)) {
        *reinterpret_cast<volatile T*>(at) = static_cast<T>(value);
    } else {
        store<T>(at, value);
    }
}

}  // namespace

std::uint64_t MmioWindow::read(std::uint32_t offset, std::uint32_t width) {
    const std::byte* const at = bar_.data() + offset;
    switch (width) {
        case 1:
            return load_any<std::uint8_t>(at);
        case 2:
            return load_any<std::uint16_t>(at);
        case 4:
            return load_any<std::uint32_t>(at);
        default:
            return load_any<std::uint64_t>(at);
    }
}

void MmioWindow::write(std::uint32_t offset, std::uint32_t width, std::uint64_t value) {
    std::byte* const at = bar_.data() + offset;
    switch (width) {
        case 1:
            return store_any<std::uint8_t>(at, value);
        case 2:
            return store_any<std::uint16_t>(at, value);
        case 4:
            return store_any<std::uint32_t>(at, value);
        default:
            return store_any<std::uint64_t>(at, value);
    }
}

void MmioWindow::update32(std::uint32_t offset, std::uint32_t clear, std::uint32_t set) {
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = static_cast<off_t>(offset);
    lock.l_len = 1;
    // Held only for the duration of this function. If locking fails, update the bits without the
    // lock, which is correct for a single process.
    int locked = 0;
    do {
        locked = ::fcntl(file_.get(), F_OFD_SETLKW, &lock);
    } while (locked != 0 && errno == EINTR);
    RegisterWindow::update32(offset, clear, set);
    if (locked == 0) {
        lock.l_type = F_UNLCK;
        (void)::fcntl(file_.get(), F_OFD_SETLK, &lock);
    }
}

}  // namespace vgpu::client
