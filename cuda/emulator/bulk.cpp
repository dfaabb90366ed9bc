// Linear copies, and what all copies of the copy engine have in common.

#include "bulk.hpp"

#include <cstring>
#include <utility>
#include <vector>

#include "cluster.hpp"
#include "hopper.hpp"
#include "mbarrier.hpp"
#include "memory.hpp"
#include "race.hpp"

namespace twinstream::emulator {
namespace {

constexpr std::uint32_t chunk_bytes = 16;
constexpr std::uint32_t always = 0xffffffffu;
constexpr std::size_t stores_len_max = 1024;

// Hides the destination in one block from now on; gives the barrier there.
BarrierState *prepare(const BulkLoad &load, const ClusterPlace &to) {
    BarrierState *const state = barrier_at({to.block, load.barrier}, load.name, true);
    SharedShadow::Fault fault;
    if (to.block->shadow().is_hidden(load.shared, load.bytes, always, &fault)) {
        const Dimensions writer = to.block->thread(fault.thread).index;
        current_block->fail("overwrites byte %u of shared memory with %s, where thread (%u,%u,%u) "
                            "has written without fence.proxy.async",
                            fault.byte, load.name, writer.x, writer.y, writer.z);
    }
    std::memset(to.block->shared() + load.shared, poison, load.bytes);
    to.block->shadow().write_async(load.shared, load.bytes);
    order_release(state);
    return state;
}

void check_linear(const void *memory, std::uint32_t bytes, const char *name) {
    if (reinterpret_cast<std::uintptr_t>(memory) % chunk_bytes != 0 || bytes % chunk_bytes != 0 ||
        bytes == 0) {
        current_block->fail("executes %s for %u bytes or an address that are no multiple of 16",
                            name, bytes);
    }
    if (!is_device_memory(memory, bytes)) {
        current_block->fail("executes %s outside device memory", name);
    }
}

void read(BulkStore &store) {
    check_async_read(store.shared, store.bytes, store.issued, store.name);
    const unsigned char *const from = current_block->shared() + store.shared;
    store.data.assign(from, from + store.bytes);
}

// Of all groups but the `pending` newest ones.
void read_stores(std::uint32_t pending) {
    for (BulkStore &store : current_thread->stores) {
        if (store.group + pending < current_thread->store_groups && store.data.empty()) {
            read(store);
        }
    }
}

void write_stores(std::uint32_t pending) {
    read_stores(pending);
    std::vector<BulkStore> &stores = current_thread->stores;
    std::size_t done = 0;
    while (done < stores.size() && stores[done].group + pending < current_thread->store_groups) {
        stores[done].write(stores[done].data.data());
        done += 1;
    }
    stores.erase(stores.begin(), stores.begin() + static_cast<std::ptrdiff_t>(done));
}

} // namespace

void start_load(const BulkLoad &load) {
    Block &block = *current_block;
    block.check_shared(load.shared, load.bytes, load.align_bytes, load.name);
    struct Target {
        std::uint32_t rank;
        BarrierState *state;
    };
    const std::uint32_t self = block.cluster().rank(block);
    const std::uint32_t ranks = load.ranks == 0 ? 1u << self : load.ranks;
    std::vector<Target> targets;
    for (std::uint32_t rank = 0; ranks >> rank != 0; ++rank) {
        if ((ranks >> rank & 1) != 0) {
            Block &to = block.cluster().reach(rank, load.name);
            targets.push_back({rank, prepare(load, {&to, load.shared})});
        }
    }
    block.defer(load.name, [load, targets] {
        std::vector<unsigned char> data(load.bytes);
        load.fill(data.data());
        for (const Target &target : targets) {
            Block &to = current_block->cluster().reach(target.rank, load.name);
            std::memcpy(to.shared() + load.shared, data.data(), load.bytes);
            to.shadow().write_async(load.shared, load.bytes);
            complete_bytes(to, target.state, load.bytes);
        }
    });
}

void start_store(const char *name, std::uint32_t shared, std::uint32_t bytes,
                 std::uint32_t align_bytes, std::function<void(const unsigned char *data)> write) {
    Block &block = *current_block;
    Thread &self = *current_thread;
    const unsigned char *const from = block.check_shared(shared, bytes, align_bytes, name);
    if (self.stores.size() == stores_len_max) {
        block.fail("executes %s and never waits for it", name);
    }
    const std::uint32_t now = block.shadow().now();
    check_async_read(shared, bytes, now, name);
    tell_read(from, bytes);
    self.stores.push_back({name, shared, bytes, now, self.store_groups, {}, std::move(write)});
}

void copy_bulk(std::uint32_t shared, const void *source, std::uint32_t bytes, std::uint32_t barrier,
               std::uint16_t ranks) {
    static const char name[] = "cp.async.bulk.shared.global";
    check_linear(source, bytes, name);
    check_async_global_read(source, bytes, name);
    start_load({name, shared, bytes, chunk_bytes, barrier, ranks,
                [=](unsigned char *data) { std::memcpy(data, source, bytes); }});
}

void store_bulk(void *to, std::uint32_t shared, std::uint32_t bytes) {
    static const char name[] = "cp.async.bulk.global.shared";
    check_linear(to, bytes, name);
    Published &published = current_block->launch().state->published;
    const std::uint32_t block = current_block->number();
    start_store(name, shared, bytes, chunk_bytes, [=, &published](const unsigned char *data) {
        std::memcpy(to, data, bytes);
        published.end_write(to, bytes, block);
    });
    std::memset(to, poison, bytes);
    published.begin_write(to, bytes, block);
}

void prefetch_bulk(const void *source, std::uint32_t bytes) {
    check_linear(source, bytes, "cp.async.bulk.prefetch.L2");
}

void bulk_commit() {
    current_thread->store_groups += 1;
    const std::uint32_t progress = current_block->draw(3);
    if (progress == 1) {
        read_stores(0);
    } else if (progress == 2) {
        write_stores(0);
    }
}

void bulk_wait(std::uint32_t pending) { write_stores(pending); }
void bulk_wait_read(std::uint32_t pending) { read_stores(pending); }

} // namespace twinstream::emulator
