// SPDX-License-Identifier: MIT
#include "mediator/devices/handle_table.h"

#include <algorithm>

namespace vgpu {
namespace {

constexpr std::uint32_t kPlaceBits = 16;
constexpr std::uint32_t kMostPlaces = 1U << kPlaceBits;

std::uint32_t place_of(HandleTable::Handle handle) {
    return handle & (kMostPlaces - 1);
}

}  // namespace

std::optional<HandleTable::Handle> HandleTable::insert(const Buffer& buffer) {
    std::uint32_t place = 0;
    if (!free_places_.empty()) {
        place = free_places_.back();
        free_places_.pop_back();
    } else if (places_.size() < kMostPlaces) {
        place = static_cast<std::uint32_t>(places_.size());
        places_.emplace_back();
    } else {
        return std::nullopt;
    }
    Place& at = places_[place];
    at.buffer = buffer;
    ++at.generation;
    ++size_;
    return at.generation << kPlaceBits | place;
}

const HandleTable::Buffer* HandleTable::find(Handle handle) const {
    const std::uint32_t place = place_of(handle);
    if (place >= places_.size() || !places_[place].buffer ||
        places_[place].generation != handle >> kPlaceBits) {
        return nullptr;
    }
    return &*places_[place].buffer;
}

bool HandleTable::erase(Handle handle) {
    if (find(handle) == nullptr) {
        return false;
    }
    const std::uint32_t place = place_of(handle);
    places_[place].buffer.reset();
    --size_;
    if (places_[place].generation < generations_) {
        free_places_.push_back(place);
    }
    return true;
}

std::size_t HandleTable::room() const {
    return free_places_.size() + (kMostPlaces - places_.size());
}

bool HandleTable::any_on(std::size_t device) const {
    return std::any_of(places_.begin(), places_.end(), [&](const Place& place) {
        return place.buffer && place.buffer->device == device;
    });
}

std::vector<HandleTable::Buffer> HandleTable::take_all() {
    return take_if([](const Buffer& /*buffer*/) { return true; });
}

std::vector<HandleTable::Buffer> HandleTable::take_all_on(std::size_t device) {
    return take_if([&](const Buffer& buffer) { return buffer.device == device; });
}

template <typename Wanted>
std::vector<HandleTable::Buffer> HandleTable::take_if(Wanted wanted) {
    std::vector<Buffer> buffers;
    for (std::uint32_t place = 0; place < places_.size(); ++place) {
        if (places_[place].buffer && wanted(*places_[place].buffer)) {
            buffers.push_back(*places_[place].buffer);
            erase(places_[place].generation << kPlaceBits | place);
        }
    }
    return buffers;
}

}  // namespace vgpu
