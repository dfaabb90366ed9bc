// Streams as host threads: each does its work in order, as late as a real one might.
//
// Invariant: a copy's bytes move no later than the next work of its stream that could notice. Work
// of different streams is ordered by tickets alone; delays drawn from the seed shuffle the rest.
#include <cstring>
#include <thread>
#include <utility>

#include "../launch.hpp"
#include "driver.hpp"

namespace twinstream::driver {
namespace {

bool overlap(const uint8_t *one, size_t one_bytes, const uint8_t *other, size_t other_bytes) {
    return one < other + other_bytes && other < one + one_bytes;
}

// Does one stream's work; runs on the stream's thread, without the lock unless it says so.
class Worker {
   public:
    explicit Worker(std::shared_ptr<Stream> stream)
        : stream_(std::move(stream)), device_(stream_->device) {}

    void run() {
        std::unique_lock lock(mutex());
        for (;;) {
            stream_->arrived.wait(lock,
                                  [&] { return !stream_->queue.empty() || stream_->is_closing; });
            if (stream_->queue.empty()) break;
            Work work = std::move(stream_->queue.front());
            stream_->queue.pop_front();
            lock.unlock();
            step(work);
            lock.lock();
        }
        lock.unlock();
        flush();
        lock.lock();
        // Whoever ends the context waits for this.
        --device_->stream_len;
        device_->changed.notify_all();
    }

   private:
    // `next`: what is known to follow.
    void step(const Work &work, const Work *next = nullptr) {
        bool is_lost = count();
        if (auto *record = std::get_if<Record>(&work)) {
            if (!is_lost) delay(), flush();
            std::lock_guard guard(mutex());
            record->ticket->is_done = true;
            record->ticket->at = std::chrono::steady_clock::now();
            device_->changed.notify_all();
        } else if (auto *before = std::get_if<Wait>(&work)) {
            std::unique_lock lock(mutex());
            wait(device_, before->ticket, lock);
        } else if (is_lost) {
            late().clear(), early_.reset();
        } else if (auto *copy = std::get_if<Copy>(&work)) {
            reach(*copy);
        } else if (auto *kernel = std::get_if<Kernel>(&work)) {
            delay(), flush(), launch(*kernel, next);
        } else if (auto *replay = std::get_if<Replay>(&work)) {
            const std::vector<Work> &works = replay->graph->works;
            for (size_t i = 0; i < works.size(); ++i) {
                step(works[i], i + 1 < works.size() ? &works[i + 1] : nullptr);
            }
        }
    }

    std::vector<Copy> &late() { return stream_->late; }

    // Counts a piece of work towards the loss of the device; whether it is lost.
    bool count() {
        std::lock_guard guard(mutex());
        ++device_->work_len;
        if (device_->options.lose_after > 0 && device_->work_len >= device_->options.lose_after) {
            lose();
        }
        return device_->lost != SUCCESS;
    }

    // With the lock held.
    void lose() {
        device_->lost = LAUNCH_FAILED;
        device_->changed.notify_all();
    }

    void delay() {
        uint64_t delay_us = 0;
        {
            std::lock_guard guard(mutex());
            uint64_t limit = device_->options.delay_us_max;
            // Half of the work comes at once: a mixture meets more orders than an even spread.
            if (limit > 0 && stream_->random.chance(2)) delay_us = stream_->random.next() % limit;
        }
        if (delay_us > 0) std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
    }

    void reach(const Copy &copy) {
        bool is_late;
        {
            std::lock_guard guard(mutex());
            is_late = device_->options.late_copies != 0;
        }
        for (const Copy &before : late()) {
            if (overlap(copy.to, copy.len_bytes, before.from, before.len_bytes) ||
                overlap(copy.to, copy.len_bytes, before.to, before.len_bytes)) {
                flush();
                break;
            }
        }
        // Its own source must survive the poison.
        if (is_late && !overlap(copy.to, copy.len_bytes, copy.from, copy.len_bytes)) {
            std::memset(copy.to, POISON, copy.len_bytes);
        }
        late().push_back(copy);
        if (!is_late) flush();
    }

    void flush() {
        for (const Copy &copy : late()) std::memmove(copy.to, copy.from, copy.len_bytes);
        late().clear();
    }

    std::unique_ptr<emulator::GridRun> prepare(const Kernel &kernel) {
        return std::make_unique<emulator::GridRun>(*emulator::find_kernel(kernel.name.c_str()),
                                                   kernel.grid, kernel.params.data());
    }

    // A dependent kernel that follows begins before this one runs: as early as it ever could.
    void launch(const Kernel &kernel, const Work *next) {
        auto run = early_ != nullptr ? std::move(early_) : prepare(kernel);
        const auto *follower = next == nullptr ? nullptr : std::get_if<Kernel>(next);
        if (follower != nullptr && follower->grid.is_dependent) {
            early_ = prepare(*follower);
            early_->begin_early();
        }
        std::string error;
        if (run->finish(&error) == 0) return;
        complain("kernel %s: %s", kernel.name.c_str(), error.c_str());
        std::lock_guard guard(mutex());
        lose();
    }

    std::shared_ptr<Stream> stream_;
    Device *device_;
    // The kernel that follows the one that runs, if it has begun.
    std::unique_ptr<emulator::GridRun> early_;
};

} // namespace

std::shared_ptr<Stream> start_stream(Device *device) {
    uint64_t seed = device->options.seed + static_cast<uint64_t>(++device->stream_len);
    auto stream = std::make_shared<Stream>(device, seed);
    std::thread([stream] { Worker(stream).run(); }).detach();
    return stream;
}

void submit(Stream *stream, Work work) {
    if (stream->capture != nullptr) {
        stream->capture->works.push_back(std::move(work));
        return;
    }
    stream->queue.push_back(std::move(work));
    stream->arrived.notify_one();
}

void wait(Device *device, const std::shared_ptr<Ticket> &ticket,
          std::unique_lock<std::mutex> &lock) {
    device->changed.wait(lock, [&] { return ticket->is_done || device->lost != SUCCESS; });
}

void synchronize(Device *device, std::unique_lock<std::mutex> &lock) {
    for (const Write &write : device->writes) {
        std::memcpy(write.to, write.bytes.data(), write.bytes.size());
    }
    device->writes.clear();
    std::vector<std::shared_ptr<Ticket>> tickets;
    for (auto &[handle, stream] : device->streams) {
        // A capture that is under way stays as it is.
        auto ticket = std::make_shared<Ticket>();
        stream->queue.push_back(Record{ticket});
        stream->arrived.notify_one();
        tickets.push_back(std::move(ticket));
    }
    for (const auto &ticket : tickets) {
        device->changed.wait(lock, [&] { return ticket->is_done; });
    }
    // Streams that were destroyed finish what they have.
    device->changed.wait(
        lock, [&] { return device->stream_len == static_cast<int>(device->streams.size()); });
}

} // namespace twinstream::driver
