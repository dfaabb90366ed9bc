// Hands the blocks of a grid to host threads.

#include "launch.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "cluster.hpp"

namespace twinstream::emulator {
namespace {

std::uint64_t environment_number(const char *name, std::uint64_t otherwise) {
    const char *text = std::getenv(name);
    return text == nullptr || *text == '\0' ? otherwise : std::strtoull(text, nullptr, 10);
}

struct SharedSettings {
    std::mutex lock;
    Settings value{environment_number("TWINSTREAM_EMULATOR_SEED", 0),
                   static_cast<unsigned>(environment_number("TWINSTREAM_EMULATOR_THREADS",
                                                            std::thread::hardware_concurrency()))};
};

SharedSettings &shared_settings() {
    static SharedSettings instance;
    return instance;
}

// Stacks are costly to map, so clusters are kept for the next launch. No more exist than host
// threads have run kernels at the same time.
class ClusterPool {
   public:
    std::unique_ptr<Cluster> take() {
        {
            const std::lock_guard<std::mutex> guard(lock_);
            if (!idle_.empty()) {
                std::unique_ptr<Cluster> cluster = std::move(idle_.back());
                idle_.pop_back();
                return cluster;
            }
        }
        return std::make_unique<Cluster>();
    }
    void give_back(std::unique_ptr<Cluster> cluster) {
        const std::lock_guard<std::mutex> guard(lock_);
        idle_.push_back(std::move(cluster));
    }

   private:
    std::mutex lock_;
    std::vector<std::unique_ptr<Cluster>> idle_;
};

// Never destroyed: a stream may still compute while the program exits. Made before main, by one
// thread: ThreadSanitizer, which does not see into this file, would miss the order that a static of
// a function has when two threads come to it first.
ClusterPool &cluster_pool = *new ClusterPool;

// FNV-1a: every kernel has an order of its own.
std::uint64_t hash(const char *text) {
    std::uint64_t value = 0xcbf29ce484222325u;
    for (; *text != '\0'; ++text) {
        value = (value ^ static_cast<unsigned char>(*text)) * 0x100000001b3u;
    }
    return value;
}

std::vector<std::uint32_t> cluster_order(std::uint32_t clusters_len, std::uint64_t seed) {
    std::vector<std::uint32_t> order(clusters_len);
    std::iota(order.begin(), order.end(), 0u);
    if (seed != 0) {
        std::mt19937_64 generator(seed);
        for (std::uint32_t i = clusters_len; i > 1; --i) {
            std::swap(order[i - 1], order[generator() % i]);
        }
    }
    return order;
}

std::string refuse(const Grid &grid) {
    const auto &[blocks, block, shared_bytes, cluster_len, is_dependent] = grid;
    // Limits of CUDA for compute capability 8.0 to 9.0.
    if (blocks[0] == 0 || blocks[1] == 0 || blocks[2] == 0 || blocks[0] > 0x7fffffffu ||
        blocks[1] > 65535 || blocks[2] > 65535) {
        return "the grid is empty or too large";
    }
    if (block[0] == 0 || block[1] == 0 || block[2] == 0 || block[2] > 64 ||
        std::uint64_t{block[0]} * block[1] * block[2] > block_threads_max) {
        return "a block has 1 to 1024 threads, at most 64 in z";
    }
    if (shared_bytes > shared_bytes_max) {
        return std::to_string(shared_bytes) + " bytes of shared memory are more than the " +
               std::to_string(shared_bytes_max) + " there are";
    }
    if (std::uint64_t{blocks[0]} * blocks[1] * blocks[2] > 0xffffffffu) {
        return "more blocks than the emulated device counts";
    }
    if (cluster_len == 0 || cluster_len > cluster_len_max || blocks[0] % cluster_len != 0) {
        return "a cluster has 1 to 8 blocks, and the grid whole clusters along x";
    }
    return {};
}

// What the compiler may give a thread: an even share of a multiprocessor's, by eights.
std::uint32_t registers_of(const Kernel &kernel, unsigned threads_len) {
    constexpr std::uint32_t multiprocessor_registers = 65536, thread_registers_max = 248;
    const unsigned blocks_len = kernel.blocks_min == nullptr ? 1 : *kernel.blocks_min;
    const std::uint32_t share = multiprocessor_registers / (threads_len * blocks_len) / 8 * 8;
    return share < thread_registers_max ? share : thread_registers_max;
}

// What the host threads of one launch share.
struct Work {
    const Launch *launch = nullptr;
    std::vector<std::uint32_t> order{}; // of clusters
    std::atomic<std::uint32_t> next{0};
    std::atomic<bool> has_failed{false};
    std::mutex lock{};
    std::string error{};

    // Of the first block of a cluster.
    Dimensions index(std::uint32_t place) const {
        const std::uint32_t number = order[place] * launch->cluster_len;
        const Dimensions grid = launch->grid;
        return {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
    }
    void fail(const std::string &what) {
        const std::lock_guard<std::mutex> guard(lock);
        if (!has_failed.exchange(true)) {
            error = what;
        }
    }
};

void work_off(Work &work) {
    std::unique_ptr<Cluster> cluster = cluster_pool.take();
    while (!work.has_failed.load()) {
        const std::uint32_t next = work.next.fetch_add(1);
        if (next >= work.order.size()) {
            break;
        }
        std::string error;
        if (!cluster->run(*work.launch, work.index(next), error)) {
            work.fail(error);
        }
    }
    cluster_pool.give_back(std::move(cluster));
}

} // namespace

Settings settings() {
    SharedSettings &shared = shared_settings();
    const std::lock_guard<std::mutex> guard(shared.lock);
    return shared.value;
}

void set_settings(const Settings &settings) {
    SharedSettings &shared = shared_settings();
    const std::lock_guard<std::mutex> guard(shared.lock);
    shared.value = settings;
}

struct GridRun::State {
    struct alignas(64) Line {
        unsigned char bytes[64];
    };
    std::vector<Line> params;
    Launch launch;
    unsigned host_threads;
    std::string refusal;
    Work work;
    LaunchState shared;
    // The cluster that began early.
    std::unique_ptr<Cluster> early;
};

GridRun::GridRun(const Kernel &kernel, const Grid &grid, const void *params) : state_(new State) {
    State &state = *state_;
    state.refusal = refuse(grid);
    if (!state.refusal.empty()) {
        state.refusal.insert(0, std::string(kernel.name) + ": ");
        return;
    }
    const Settings chosen = settings();
    const std::uint64_t seed = chosen.seed == 0 ? 0 : chosen.seed ^ hash(kernel.name);
    state.params.resize(kernel.params_bytes / sizeof(State::Line) + 1);
    std::memcpy(state.params.data(), params, kernel.params_bytes);
    const unsigned threads_len = grid.block[0] * grid.block[1] * grid.block[2];
    state.launch = {kernel.name,
                    kernel.run,
                    state.params.data(),
                    {grid.blocks[0], grid.blocks[1], grid.blocks[2]},
                    {grid.block[0], grid.block[1], grid.block[2]},
                    grid.shared_bytes,
                    grid.cluster_len,
                    registers_of(kernel, threads_len),
                    seed,
                    grid.is_dependent,
                    &state.shared};
    state.host_threads = chosen.host_threads;
    state.work.launch = &state.launch;
    const unsigned blocks_len = grid.blocks[0] * grid.blocks[1] * grid.blocks[2];
    state.work.order = cluster_order(blocks_len / grid.cluster_len, seed);
}

GridRun::~GridRun() {
    if (state_->early != nullptr) {
        state_->early->abandon();
        cluster_pool.give_back(std::move(state_->early));
    }
}

void GridRun::begin_early() {
    State &state = *state_;
    if (!state.refusal.empty()) {
        return;
    }
    state.early = cluster_pool.take();
    state.early->begin_early(state.launch, state.work.index(state.work.next++));
}

int GridRun::finish(std::string *error) {
    State &state = *state_;
    *error = state.refusal;
    if (!error->empty()) {
        return 1;
    }
    Work &work = state.work;
    if (state.early != nullptr) {
        std::string failure;
        if (!state.early->finish(failure)) {
            work.fail(failure);
        }
        cluster_pool.give_back(std::move(state.early));
    }
    std::vector<std::thread> helpers;
    for (unsigned i = 1; i < state.host_threads && i < work.order.size(); ++i) {
        helpers.emplace_back(work_off, std::ref(work));
    }
    work_off(work);
    for (std::thread &helper : helpers) {
        helper.join();
    }
    *error = work.error;
    return work.has_failed.load() ? 1 : 0;
}

int run_kernel(const Kernel &kernel, const Grid &grid, const void *params, std::string *error) {
    return GridRun(kernel, grid, params).finish(error);
}

} // namespace twinstream::emulator
