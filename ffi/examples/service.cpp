// A service that keeps a latency bound while it is offered more than the device can do.
//
//     service MODEL.safetensors [BOUND_MS [SLACK_MS [SECONDS [LOAD [PRODUCERS]]]]]
//
// It first measures what the device can do with requests that follow each other closely, then
// offers LOAD times as much (1.5 unless told otherwise) at random moments, from PRODUCERS threads.
// The engine computes what it can within BOUND_MS and turns the rest away early. Prints what became
// of all, with latencies from before the lease to the callback. Exit status 1 when a request that
// was answered with a result took longer than BOUND_MS + SLACK_MS: the slack is what the system may
// keep threads from the processor.
#include <twinstream.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

void check(const char *what, twinstream_status status) {
    if (status == TWINSTREAM_OK) return;
    throw std::runtime_error(std::string(what) + ": " + twinstream_status_name(status) + ": " +
                             twinstream_last_error());
}

struct Settings {
    const char *weights;
    double bound_ms = 50;
    double slack_ms = 25;
    double seconds = 5;
    double load = 1.5;
    int producer_len = 2;
};

struct Destroy {
    void operator()(twinstream_engine *engine) const { twinstream_engine_destroy(engine); }
};

using Engine = std::unique_ptr<twinstream_engine, Destroy>;

Engine open(const Settings &settings, double bound_ms) {
    twinstream_options options;
    check("options", twinstream_options_init(&options, sizeof options, TWINSTREAM_ABI_VERSION));
    options.weights_path = settings.weights;
    // One processor is left to the threads that hand in and answer: with less to wait for, times
    // on the device stay steady, and the engine can count on them.
    twinstream_cpu_options cpu{};
    cpu.struct_size = sizeof cpu;
    cpu.thread_len = std::max(std::thread::hardware_concurrency(), 2u) - 1;
    options.cpu = &cpu;
    options.latency_bound_ns = static_cast<std::uint64_t>(bound_ms * 1e6);
    twinstream_engine *engine = nullptr;
    check("engine", twinstream_engine_create(&options, &engine));
    return Engine(engine);
}

std::uint64_t image_bytes(const Engine &engine) {
    twinstream_geometry geometry{};
    geometry.struct_size = sizeof geometry;
    check("geometry", twinstream_engine_geometry(engine.get(), &geometry));
    return geometry.image_bytes;
}

// Requests a second that the device can do.
double capacity_hz(const Settings &settings) {
    constexpr std::size_t open_len = 64;
    const Engine engine = open(settings, 0);
    const std::vector<std::uint8_t> image(image_bytes(engine), 128);
    std::vector<twinstream_request> requests(open_len);
    const auto submit = [&](twinstream_request &request) {
        check("submit",
              twinstream_submit(engine.get(), image.data(), image.size(), nullptr, &request));
    };
    for (auto &request : requests) submit(request);
    std::size_t len = 0;
    const auto start = Clock::now();
    const auto until = start + std::chrono::seconds(1);
    for (; Clock::now() < until; len++) {
        auto &request = requests[len % open_len];
        check("wait", twinstream_wait(engine.get(), request, TWINSTREAM_FOREVER, nullptr));
        check("release", twinstream_release(engine.get(), request));
        submit(request);
    }
    return static_cast<double>(len) / std::chrono::duration<double>(Clock::now() - start).count();
}

// What became of the requests. Callbacks run on one thread, so only `full` is shared.
struct Outcomes {
    std::vector<double> latencies_ms;
    std::uint64_t rejected = 0;
    std::uint64_t expired = 0;
    std::uint64_t others = 0;
    std::atomic<std::uint64_t> full{0};
};

struct Service;

// A request on its way; one for each place of the engine's, handed round without allocating.
struct Call {
    Service *service;
    Clock::time_point since;
    std::atomic<bool> is_free{true};
};

struct Service {
    Engine engine;
    std::uint64_t image_bytes;
    std::vector<Call> calls;
    Outcomes outcomes;

    Service(Engine opened, std::size_t call_len, std::size_t request_len)
        : engine(std::move(opened)), image_bytes(::image_bytes(engine)), calls(call_len) {
        for (auto &call : calls) call.service = this;
        outcomes.latencies_ms.reserve(request_len);
    }

    void submit(std::size_t &hint) {
        const auto since = Clock::now();
        twinstream_request request;
        std::uint8_t *image;
        const auto status = twinstream_lease(engine.get(), &request, &image);
        if (status == TWINSTREAM_FULL) {
            // Here a service answers "busy": nothing queues without a limit.
            outcomes.full++;
            return;
        }
        check("lease", status);
        std::memset(image, 128, image_bytes);
        Call &call = take_call(hint);
        call.since = since;
        twinstream_request_options options{};
        options.struct_size = sizeof options;
        options.notice = TWINSTREAM_NOTICE_CALLBACK;
        options.callback = answered;
        options.user_data = &call;
        check("commit", twinstream_commit(engine.get(), request, &options));
    }

    // There are more calls than requests that can be alive, so one is always free.
    Call &take_call(std::size_t &hint) {
        for (;; hint++) {
            Call &call = calls[hint % calls.size()];
            if (call.is_free.exchange(false, std::memory_order_acquire)) return call;
        }
    }

    static void answered(void *user_data, twinstream_request request, twinstream_status status,
                         const float *) noexcept {
        Call &call = *static_cast<Call *>(user_data);
        Outcomes &outcomes = call.service->outcomes;
        const std::chrono::duration<double, std::milli> latency = Clock::now() - call.since;
        switch (status) {
        case TWINSTREAM_OK:
            outcomes.latencies_ms.push_back(latency.count());
            break;
        case TWINSTREAM_REJECTED:
            outcomes.rejected++;
            break;
        case TWINSTREAM_EXPIRED:
            outcomes.expired++;
            break;
        default:
            outcomes.others++;
            break;
        }
        twinstream_release(call.service->engine.get(), request);
        call.is_free.store(true, std::memory_order_release);
    }
};

// Submits at random moments, `rate_hz` of them a second on average.
void produce(Service &service, double rate_hz, double seconds, unsigned seed) {
    std::mt19937 random(seed);
    std::exponential_distribution<double> gap_seconds(rate_hz);
    std::size_t hint = seed * 100;
    double at_seconds = 0;
    const auto start = Clock::now();
    while ((at_seconds += gap_seconds(random)) < seconds) {
        std::this_thread::sleep_until(start + std::chrono::duration_cast<Clock::duration>(
                                                  std::chrono::duration<double>(at_seconds)));
        service.submit(hint);
    }
}

int run(const Settings &settings) {
    const double capacity = capacity_hz(settings);
    const double rate_hz = settings.load * capacity;
    const auto request_len = static_cast<std::size_t>(2 * rate_hz * settings.seconds) + 1000;
    Service service(open(settings, settings.bound_ms), 4096, request_len);
    std::printf("capacity %.0f images/s, offered %.0f/s by %d threads for %.1f s, bound %.1f ms\n",
                capacity, rate_hz, settings.producer_len, settings.seconds, settings.bound_ms);

    std::vector<std::thread> producers;
    for (int i = 0; i < settings.producer_len; i++) {
        producers.emplace_back(produce, std::ref(service), rate_hz / settings.producer_len,
                               settings.seconds, static_cast<unsigned>(i + 1));
    }
    for (auto &producer : producers) producer.join();
    check("drain", twinstream_engine_drain(service.engine.get(), 10'000'000'000));

    // From here on no callback runs.
    auto &outcomes = service.outcomes;
    auto &latencies = outcomes.latencies_ms;
    std::sort(latencies.begin(), latencies.end());
    if (latencies.empty()) throw std::runtime_error("nothing was answered");
    const auto quantile = [&](double share) {
        const auto last = static_cast<double>(latencies.size() - 1);
        return latencies[static_cast<std::size_t>(share * last)];
    };
    const auto count = [](std::uint64_t len) { return static_cast<unsigned long long>(len); };
    std::printf("answered %llu (%.0f images/s), rejected %llu, expired %llu, full %llu, "
                "failed %llu\n",
                count(latencies.size()), static_cast<double>(latencies.size()) / settings.seconds,
                count(outcomes.rejected), count(outcomes.expired), count(outcomes.full),
                count(outcomes.others));
    std::printf("latency p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, longest %.2f ms\n", quantile(0.5),
                quantile(0.99), quantile(0.999), latencies.back());
    const double limit_ms = settings.bound_ms + settings.slack_ms;
    const auto is_late = [&](double latency_ms) { return latency_ms > limit_ms; };
    const auto late = std::count_if(latencies.begin(), latencies.end(), is_late);
    std::printf("%td took longer than %.1f ms\n", late, limit_ms);
    return late > 0 || outcomes.others > 0 ? 1 : 0;
}

} // namespace

int main(int argument_len, char **arguments) {
    if (argument_len < 2) {
        std::fprintf(stderr,
                     "usage: %s MODEL.safetensors [BOUND_MS [SLACK_MS [SECONDS [LOAD "
                     "[PRODUCERS]]]]]\n",
                     arguments[0]);
        return 2;
    }
    Settings settings{arguments[1]};
    if (argument_len > 2) settings.bound_ms = std::atof(arguments[2]);
    if (argument_len > 3) settings.slack_ms = std::atof(arguments[3]);
    if (argument_len > 4) settings.seconds = std::atof(arguments[4]);
    if (argument_len > 5) settings.load = std::atof(arguments[5]);
    if (argument_len > 6) settings.producer_len = std::atoi(arguments[6]);
    try {
        return run(settings);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
