// SPDX-License-Identifier: MIT
#include "base/mapping.h"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

namespace vgpu {

Result<Mapping> Mapping::create(int fd, std::size_t length, int prot, long offset) {
    void* const address = ::mmap(nullptr, length, prot, MAP_SHARED, fd, offset);
    if (address == MAP_FAILED) {
        return Error::from_errno("cannot map memory", errno);
    }
    return Mapping(static_cast<std::byte*>(address), length);
}

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
    if (this != &other) {
        unmap();
        data_ = std::exchange(other.data_, nullptr);
        size_ = std::exchange(other.size_, 0);
    }
    return *this;
}

Mapping::~Mapping() {
    unmap();
}

void Mapping::unmap() {
    if (data_ != nullptr) {
        ::munmap(data_, size_);
    }
}

}  // namespace vgpu
