// Runs the variants of a question whose wrong guesses may fault or hang, so that one that does
// hides no other's answer.
//
// After a fault on the device a process can no longer use CUDA. Variants therefore run in a child,
// one after the other, and behind one that ended its child the next begins in a new one. The
// parent must not use CUDA itself: a child could not begin anew.
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <new>
#include <string>
#include <utility>

#include "probe.hpp"

namespace twinstream::probes {

// With the start of CUDA, which takes seconds on machines of many GPUs: a variant by itself takes
// none. scripts/gpu.sh leaves time for two that hang.
constexpr unsigned VARIANT_SECONDS_MAX = 6;
constexpr unsigned NO_VARIANT = ~0u;

// What was found of a variant.
struct Answer {
    // Members of a JSON object.
    std::string fields;
    // Whether all elements are right.
    bool is_exact;
    // How long a step took, where that was measured.
    double cycles;
};

// How many elements are not right, behind what else was found.
inline Answer verdict(std::string fields, unsigned wrong_len, double cycles = 0.0) {
    if (!fields.empty()) fields += ", ";
    fields += "\"wrong_len\": " + std::to_string(wrong_len) +
              ", \"exact\": " + (wrong_len == 0 ? "true" : "false");
    return {std::move(fields), wrong_len == 0, cycles};
}

// What parent and children share: the variant that is under way, and what was found of all.
struct Shared {
    static constexpr unsigned LEN_MAX = 512;
    std::atomic<unsigned> variant;
    bool is_exact[LEN_MAX];
    double cycles[LEN_MAX];
};

// Waits for the child and says how it failed; empty if it did not. One that stays at a variant for
// too long is ended.
inline std::string failure(pid_t child, const std::atomic<unsigned> &variant) {
    using Clock = std::chrono::steady_clock;
    unsigned seen = variant;
    Clock::time_point since = Clock::now();
    int status = 0;
    for (;;) {
        const pid_t ended = waitpid(child, &status, WNOHANG);
        if (ended == child) break;
        if (ended < 0) return "lost";
        if (variant != seen) {
            seen = variant;
            since = Clock::now();
        }
        if (Clock::now() - since > std::chrono::seconds(VARIANT_SECONDS_MAX)) {
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            return "timed out";
        }
        const timespec pause{0, 1000000};
        nanosleep(&pause, nullptr);
    }
    if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
    return WEXITSTATUS(status) == 0 ? "" : "error";
}

// The child's part: prints an answer for each variant from `first` on.
template <class Fields, class Find>
void answer_from(unsigned first, unsigned len, Shared &shared, const char *probe, Fields fields,
                 Find find) {
    if (device().major != 9) {
        std::printf("{\"probe\": \"%s\", \"skipped\": \"needs compute capability 9.x\"}\n", probe);
        return;
    }
    for (unsigned i = first; i < len; ++i) {
        shared.variant = i;
        const Answer found = find(i);
        shared.is_exact[i] = found.is_exact;
        shared.cycles[i] = found.cycles;
        std::printf("{\"probe\": \"%s\", %s, %s}\n", probe, fields(i).c_str(),
                    found.fields.c_str());
        std::fflush(stdout);
    }
}

// What was found of all variants. Those that failed, or were skipped, are not exact.
struct Found {
    const char *probe;
    unsigned len;
    const Shared *shared;
    int exit_status;

    // The share of the variants chosen that are exact, as a figure.
    template <class IsChosen>
    void print_share(const char *name, IsChosen is_chosen, const char *decides) const {
        unsigned chosen_len = 0, exact_len = 0;
        for (unsigned i = 0; i < len; ++i) {
            if (!is_chosen(i)) continue;
            ++chosen_len;
            exact_len += shared->is_exact[i];
        }
        const std::string unit = "of " + std::to_string(chosen_len) + " right";
        print_figure(probe, name, static_cast<double>(exact_len) / chosen_len, unit.c_str(),
                     decides);
    }
};

// Prints a result for each variant below `len`: fields(variant) names it, as members of a JSON
// object, find(variant) is its Answer. The exit status is 1 if a variant failed.
template <class Fields, class Find>
Found run_isolated(const char *probe, unsigned len, Fields fields, Find find) {
    void *const memory =
        mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || len > Shared::LEN_MAX) {
        std::perror("mmap");
        std::exit(1);
    }
    Shared &shared = *new (memory) Shared{};
    std::atomic<unsigned> &variant = shared.variant;
    int exit_status = 0;
    for (unsigned first = 0; first < len; first = variant + 1) {
        variant = NO_VARIANT;
        // What is still buffered would be printed by both.
        std::fflush(nullptr);
        const pid_t child = fork();
        if (child < 0) {
            std::perror("fork");
            std::exit(1);
        }
        if (child == 0) {
            answer_from(first, len, shared, probe, fields, find);
            std::fflush(stdout);
            _exit(0);
        }
        const std::string why = failure(child, variant);
        if (why.empty()) break;
        exit_status = 1;
        // Without a device or driver no variant is ever reached.
        if (variant == NO_VARIANT) {
            std::fprintf(stderr, "%s: %s before the first variant\n", probe, why.c_str());
            break;
        }
        std::printf("{\"probe\": \"%s\", %s, \"failed\": \"%s\"}\n", probe, fields(variant).c_str(),
                    why.c_str());
    }
    return {probe, len, &shared, exit_status};
}

} // namespace twinstream::probes
