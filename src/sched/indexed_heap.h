// SPDX-License-Identifier: MIT
//
// IndexedHeap: a set of small integers with keys that yields the one with the least key. Any member
// can be updated or removed by its number. 4-ary heap, O(log n); no allocation once it has grown.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace vgpu {

template <typename Key>
class IndexedHeap {
  public:
    using Id = std::uint32_t;

    [[nodiscard]] bool empty() const { return items_.empty(); }
    [[nodiscard]] bool contains(Id id) const { return id < places_.size() && places_[id] != kNone; }
    // Precondition: not empty.
    [[nodiscard]] Id top() const { return items_.front().id; }
    [[nodiscard]] const Key& top_key() const { return items_.front().key; }

    // Adds the number, or changes its key.
    void set(Id id, const Key& key) {
        if (id >= places_.size()) {
            places_.resize(std::size_t{id} + 1, kNone);
        }
        if (places_[id] == kNone) {
            items_.push_back({key, id});
            rise(items_.size() - 1, {key, id});
        } else {
            settle(places_[id], {key, id});
        }
    }

    // No effect if the number is not a member.
    void erase(Id id) {
        if (!contains(id)) {
            return;
        }
        const std::size_t place = places_[id];
        places_[id] = kNone;
        const Item last = items_.back();
        items_.pop_back();
        if (place < items_.size()) {
            settle(place, last);
        }
    }

    void clear() {
        items_.clear();
        places_.clear();
    }

  private:
    static constexpr std::uint32_t kNone = UINT32_MAX;
    static constexpr std::size_t kChildren = 4;

    struct Item {
        Key key;
        Id id;
    };

    void put(std::size_t place, const Item& item) {
        items_[place] = item;
        places_[item.id] = static_cast<std::uint32_t>(place);
    }

    // Moves the item to its position, starting at this place, whose previous item is void.
    void settle(std::size_t place, const Item& item) {
        if (place > 0 && item.key < items_[(place - 1) / kChildren].key) {
            rise(place, item);
        } else {
            sink(place, item);
        }
    }

    void rise(std::size_t place, const Item& item) {
        while (place > 0) {
            const std::size_t parent = (place - 1) / kChildren;
            if (!(item.key < items_[parent].key)) {
                break;
            }
            put(place, items_[parent]);
            place = parent;
        }
        put(place, item);
    }

    void sink(std::size_t place, const Item& item) {
        for (;;) {
            const std::size_t first = place * kChildren + 1;
            if (first >= items_.size()) {
                break;
            }
            std::size_t least = first;
            for (std::size_t child = first + 1; child < first + kChildren && child < items_.size();
                 ++child) {
                least = items_[child].key < items_[least].key ? child : least;
            }
            if (!(items_[least].key < item.key)) {
                break;
            }
            put(place, items_[least]);
            place = least;
        }
        put(place, item);
    }

    std::vector<Item> items_;
    std::vector<std::uint32_t> places_;  // by id
};

}  // namespace vgpu
