// SPDX-License-Identifier: MIT
//
// The C API of queues and heap: checks arguments and converts Outcomes to codes. Pushing, flushing
// and the first polls of a wait are direct calls of inlined code.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "client/api/device.h"
#include "client/api/queue_command.h"
#include "client/core/api_support.h"
#include "client/core/response.h"
#include "client/include/vgpu.h"
#include "client/queue/queue.h"
#include "ring/reply.h"

namespace {

using namespace vgpu::client;  // NOLINT: this file implements the public API
namespace ring = vgpu::ring;

Nanoseconds limit_of(std::uint32_t timeout_ms) {
    return timeout_ms == VGPU_NO_TIMEOUT ? kNever
                                         : Nanoseconds(std::chrono::milliseconds(timeout_ms));
}

// Runs `body`, which returns a code, on the device's shared memory.
template <typename Body>
int with_region(vgpu_device* device, vgpu_failure* why, Body body) {
    return guarded(why, [&]() -> int {
        return device->region ? body(*device->region) : fail(why, no_queues(device->why_no_queues));
    });
}

int read_reply(vgpu_queue* queue, const vgpu_reply_place& place, vgpu_reply_view* view,
               vgpu_failure* why) {
    Region& region = queue->impl->region();
    if (place.offset % VGPU_REPLY_ALIGN != 0 ||
        !region.layout().in_heap(place.offset, place.capacity)) {
        return bad_argument(why, "the reply place is outside the heap, or not a multiple of 8");
    }
    const auto reply = ring::read_reply({region.base() + place.offset, place.capacity});
    if (!reply || reply->header.cookie != place.cookie) {
        return fail(why, {VGPU_E_BAD_RESPONSE,
                          "the reply is inconsistent or belongs to another command: the reply "
                          "place was used twice, or this is a bug in the mediator",
                          0});
    }
    if (view != nullptr) {
        *view = {reply->header.cookie,
                 reply->header.status,
                 reply->header.exec_time_us,
                 reply->header.result_count,
                 reply->header.data_length,
                 reinterpret_cast<const std::uint32_t*>(reply->results.data()),
                 reply->data.data()};
    }
    const std::uint32_t status = reply->header.status;
    if (status == VGPU_ERR_NONE) {
        return VGPU_OK;
    }
    const int code = status > 0xFF ? VGPU_E_BAD_RESPONSE : static_cast<int>(status);
    return guarded(why, [&]() -> int {
        const std::string text = text_of(reply->data);
        return text.empty() ? fail(why, code) : fail(why, {code, text, 0});
    });
}

// vgpu_queue_wait without the check for null.
int wait_for(vgpu_queue* queue, std::uint64_t point, std::uint32_t timeout_ms, vgpu_failure* why) {
    Queue& impl = *queue->impl;
    impl.flush();
    if (impl.completed() >= point || (timeout_ms != 0 && impl.wait_a_moment(point) == VGPU_OK)) {
        return VGPU_OK;
    }
    return guarded(why, [&]() -> int {
        const auto done = impl.wait(point, limit_of(timeout_ms));
        return done ? int{VGPU_OK} : fail(why, done.failure());
    });
}

}  // namespace

int vgpu::client::push_failed(ring::Push result, vgpu_failure* why) {
    switch (result) {
        case ring::Push::kFull:
            return fail(why, VGPU_E_QUEUE_FULL);
        case ring::Push::kTooLarge:
            return bad_argument(
                why, "the command's record would exceed 4096 bytes: put bulk data into the heap");
        case ring::Push::kNotRunning:
            return fail(why, VGPU_E_QUEUE_STOPPED);
        default:
            return fail(why, {VGPU_E_BAD_RESPONSE,
                              "the mediator wrote an invalid consumer index (head), which is a bug "
                              "in it: close the queue",
                              0});
    }
}

int vgpu_get_shm_info(vgpu_device* device, vgpu_shm_info* info, vgpu_failure* why) {
    if (device == nullptr || info == nullptr) {
        return bad_argument(why, "vgpu_get_shm_info: a pointer is null");
    }
    *info = {};
    return device->region == nullptr ? int{VGPU_OK} : guarded(why, [&]() -> int {
        *info = device->region->info();
        info->has_interrupt = device->has_interrupt ? 1 : 0;
        return VGPU_OK;
    });
}

uint64_t vgpu_generation(vgpu_device* device) {
    return device == nullptr || device->region == nullptr ? 0 : device->region->generation();
}

int vgpu_queue_open(vgpu_device* device, uint32_t index, uint32_t timeout_ms, vgpu_queue** queue,
                    vgpu_failure* why) {
    if (device == nullptr || queue == nullptr) {
        return bad_argument(why, "vgpu_queue_open: a pointer is null");
    }
    *queue = nullptr;
    return with_region(device, why, [&](Region& region) -> int {
        auto made = std::make_unique<vgpu_queue>();
        auto opened = Queue::open(device->region, index, device->waiting,
                                  deadline_after(region.clock(), timeout_ms));
        if (!opened) {
            return fail(why, opened.failure());
        }
        made->impl = std::move(*opened);
        *queue = made.release();
        return VGPU_OK;
    });
}

void vgpu_queue_close(vgpu_queue* queue) {
    delete queue;
}

uint32_t vgpu_queue_index(const vgpu_queue* queue) {
    return queue == nullptr ? VGPU_QUEUE_ANY : queue->impl->index();
}

int vgpu_queue_push(vgpu_queue* queue, const vgpu_queue_command* command, uint64_t* point,
                    vgpu_failure* why) {
    if (queue == nullptr || command == nullptr) {
        return bad_argument(why, "vgpu_queue_push: a pointer is null");
    }
    return push_command(queue, *command, nullptr, point, why);
}

int vgpu_queue_flush(vgpu_queue* queue, vgpu_failure* why) {
    if (queue == nullptr) {
        return bad_argument(why, "vgpu_queue_flush: queue is null");
    }
    queue->impl->flush();
    return VGPU_OK;
}

int vgpu_queue_submit(vgpu_queue* queue, const vgpu_queue_command* command, uint64_t* point,
                      vgpu_failure* why) {
    const int code = vgpu_queue_push(queue, command, point, why);
    if (code == VGPU_OK) {
        queue->impl->flush();
    }
    return code;
}

int vgpu_queue_wait(vgpu_queue* queue, uint64_t point, uint32_t timeout_ms, vgpu_failure* why) {
    return queue == nullptr ? bad_argument(why, "vgpu_queue_wait: queue is null")
                            : wait_for(queue, point, timeout_ms, why);
}

uint64_t vgpu_queue_completed(vgpu_queue* queue) {
    return queue == nullptr ? 0 : queue->impl->completed();
}

uint64_t vgpu_queue_submitted(const vgpu_queue* queue) {
    return queue == nullptr ? 0 : queue->impl->submitted();
}

int vgpu_queue_reply_read(vgpu_queue* queue, const vgpu_reply_place* place, vgpu_reply_view* view,
                          vgpu_failure* why) {
    if (queue == nullptr || place == nullptr) {
        return bad_argument(why, "vgpu_queue_reply_read: a pointer is null");
    }
    return read_reply(queue, *place, view, why);
}

int vgpu_queue_finish(vgpu_queue* queue, uint64_t point, const vgpu_reply_place* place,
                      uint32_t timeout_ms, vgpu_reply_view* view, vgpu_failure* why) {
    if (queue == nullptr || place == nullptr) {
        return bad_argument(why, "vgpu_queue_finish: a pointer is null");
    }
    const int code = wait_for(queue, point, timeout_ms, why);
    return code != VGPU_OK ? code : read_reply(queue, *place, view, why);
}

int vgpu_queue_call(vgpu_queue* queue, const vgpu_queue_command* command, uint32_t timeout_ms,
                    vgpu_reply* reply, vgpu_failure* why) {
    if (queue == nullptr || command == nullptr) {
        return bad_argument(why, "vgpu_queue_call: a pointer is null");
    }
    return guarded(why, [&]() -> int {
        Queue& impl = *queue->impl;
        Clock& clock = impl.region().clock();
        const Nanoseconds deadline = deadline_after(clock, timeout_ms);
        const auto place = impl.own_reply_place(deadline);
        if (!place) {
            return fail(why, place.failure());
        }
        vgpu_queue_command own = *command;
        own.reply_offset = place->offset;
        own.reply_capacity = place->capacity;
        own.cookie = place->cookie;
        std::uint64_t point = 0;
        int code = push_command(queue, own, nullptr, &point, why);
        // Once all earlier commands have completed, any command fits.
        if (code == VGPU_E_QUEUE_FULL) {
            code = wait_for(queue, impl.submitted(), timeout_ms, why);
            code = code == VGPU_OK ? push_command(queue, own, nullptr, &point, why) : code;
        }
        if (code != VGPU_OK) {
            return code;
        }
        impl.flush();
        if (impl.wait_a_moment(point) != VGPU_OK) {
            const auto done = impl.wait(
                point,
                deadline == kNever ? kNever : std::max(Nanoseconds(0), deadline - clock.now()));
            if (!done) {
                // The reply may still arrive: do not reuse its buffer.
                impl.give_up_reply_place(point);
                return fail(why, done.failure());
            }
        }
        vgpu_reply_view view{};
        code = read_reply(queue, *place, &view, why);
        if (code != VGPU_OK || reply == nullptr) {
            return code;
        }
        reply->request_id = static_cast<std::uint32_t>(point);
        reply->exec_time_us = view.exec_time_us;
        reply->result_count = std::min<std::uint32_t>(view.result_count, VGPU_MAX_RESULTS);
        std::memcpy(reply->results, view.results, 4 * std::size_t{reply->result_count});
        reply->data_length = std::min<std::uint32_t>(view.data_length, VGPU_MAX_DATA);
        std::memcpy(reply->data, view.data, reply->data_length);
        reply->data[reply->data_length] = 0;
        return VGPU_OK;
    });
}

int vgpu_heap_alloc(vgpu_device* device, uint64_t size, uint64_t alignment, vgpu_heap_block* block,
                    vgpu_failure* why) {
    if (device == nullptr || block == nullptr) {
        return bad_argument(why, "vgpu_heap_alloc: a pointer is null");
    }
    return with_region(device, why, [&](Region& region) -> int {
        const auto made = region.alloc(size, alignment);
        if (!made) {
            return fail(why, made.failure());
        }
        *block = *made;
        return VGPU_OK;
    });
}

int vgpu_heap_free(vgpu_device* device, const vgpu_heap_block* block, vgpu_failure* why) {
    if (device == nullptr || block == nullptr) {
        return bad_argument(why, "vgpu_heap_free: a pointer is null");
    }
    return with_region(device, why, [&](Region& region) -> int {
        const auto freed = region.free_block(*block);
        return freed ? int{VGPU_OK} : fail(why, freed.failure());
    });
}

int vgpu_get_heap_info(vgpu_device* device, vgpu_heap_info* info, vgpu_failure* why) {
    if (device == nullptr || info == nullptr) {
        return bad_argument(why, "vgpu_get_heap_info: a pointer is null");
    }
    return with_region(device, why, [&](Region& region) -> int {
        *info = region.heap_info();
        return VGPU_OK;
    });
}
