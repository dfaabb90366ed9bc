//! Images that are handed over as one: what callers see of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::task::{Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use twinstream::engine::{
    Answer, Answers, Engine, EngineOptions, Failure, Handler, ManyLease, ManyTicket, Refused,
    RequestOptions,
};
use twinstream::sched::{Decision, Policy, PolicySpec, Reason, View};

use super::device::{Device, Plan, Random, calibration_len};
use super::requests::{
    IMAGE_BYTES, LONG, SLOW, assert_right, block_on, image, small, start, submit, until,
};

/// Several images, of these numbers.
fn images(numbers: std::ops::Range<u8>) -> Vec<u8> {
    numbers.flat_map(image).collect()
}

fn lease(engine: &Engine, numbers: std::ops::Range<u8>) -> ManyLease {
    let mut lease = engine.lease_many(numbers.len()).unwrap();
    assert_eq!(lease.image_len(), numbers.len());
    for (place, number) in lease.images_mut().zip(numbers) {
        place.copy_from_slice(&image(number));
    }
    lease
}

fn assert_all_right(mut answers: Answers, numbers: std::ops::Range<u8>) {
    assert_eq!((answers.len(), answers.outcome()), (numbers.len(), Ok(())));
    for number in numbers {
        assert_right(answers.next().unwrap(), number);
    }
    assert!(answers.next().is_none());
}

/// Sends what it is called with, and how many calls it took.
struct Calls(mpsc::SyncSender<(u64, Answers)>);

impl Handler for Calls {
    fn answered(&self, _: u64, _: Answer) {
        panic!("an answer by itself");
    }

    fn answered_many(&self, tag: u64, answers: Answers) {
        self.0.send((tag, answers)).unwrap();
    }
}

#[test]
fn each_way_to_wait_gets_the_result_of_each_image() {
    let engine = start(Plan { delay_us_max: 300, ..Plan::default() }, small().slot_len(20));
    let options = RequestOptions::default();
    for len in [1, 2, 7, 20] {
        let numbers = 1..1 + len;
        assert_all_right(lease(&engine, 1..1 + len).commit(options).unwrap().wait(), 1..1 + len);
        let ticket = engine.submit_many(&images(numbers), options).unwrap();
        assert_eq!(ticket.image_len(), usize::from(len));
        assert_all_right(ticket.wait_timeout(LONG).unwrap(), 1..1 + len);
        let ticket = lease(&engine, 3..3 + len).commit(options).unwrap();
        assert_all_right(block_on(ticket), 3..3 + len);

        let (sender, receiver) = mpsc::sync_channel(1);
        let many = lease(&engine, 5..5 + len);
        many.commit_with(options, Arc::new(Calls(sender)), 7).unwrap();
        let (tag, answers) = receiver.recv_timeout(LONG).unwrap();
        assert_eq!(tag, 7);
        assert_all_right(answers, 5..5 + len);

        // A handler that takes one at a time gets one after the other.
        let (sender, receiver) = mpsc::sync_channel(20);
        let handler = move |tag, answer| sender.send((tag, answer)).unwrap();
        lease(&engine, 9..9 + len).commit_with(options, Arc::new(handler), 8).unwrap();
        for number in 9..9 + len {
            let (tag, answer) = receiver.recv_timeout(LONG).unwrap();
            assert_eq!(tag, 8);
            assert_right(answer, number);
        }
    }
    assert!(engine.drain(LONG));
    let stats = engine.stats();
    assert_eq!((stats.accepted, stats.completed, stats.alive_len), (150, 150, 0));
}

/// Every batch has all images that wait.
#[derive(Debug)]
struct Greedy;

impl Policy for Greedy {
    fn upload(&self, view: &View<'_>) -> Decision {
        Decision::Go { len: view.batch_len(), reason: Reason::Idle }
    }
}

/// Goal: the scheduler sees all of the images before it acts on the first. Method: an idle engine
/// whose policy goes at once with whatever is there.
#[test]
fn images_reach_the_scheduler_together() {
    let device = Device::new(IMAGE_BYTES, 8, Plan::default(), 1);
    let options = EngineOptions::default().slot_len(40);
    let engine = Engine::start_with_policy(device, &options, Box::new(Greedy)).unwrap();
    for round in 0..200 {
        let answers = engine.submit_many(&images(1..9), RequestOptions::default()).unwrap().wait();
        let outputs: Vec<_> = answers.map(Result::unwrap).collect();
        let timing = *outputs[0].timing();
        assert_eq!(timing.batch_len, 8, "round {round}");
        for output in &outputs {
            let other = output.timing();
            assert_eq!((other.batch, other.arrival_ns), (timing.batch, timing.arrival_ns));
        }
        // The next ones begin elsewhere in the ring.
        submit(&engine, 1).wait().unwrap();
    }
}

#[test]
fn too_many_and_none_are_refused_and_nothing_is_kept_of_too_few() {
    let engine = start(Plan::default(), small());
    for len in [0, 5, usize::MAX] {
        let refused = engine.lease_many(len).unwrap_err();
        assert_eq!(refused, Refused::Len);
        assert!(refused.to_string().contains("EngineOptions::slot_len"));
    }
    for bytes in [1, IMAGE_BYTES + 1, 4 * IMAGE_BYTES - 1] {
        let refused = engine.submit_many(&vec![0; bytes], RequestOptions::default()).unwrap_err();
        assert_eq!(refused, Refused::Size);
    }
    let none = engine.submit_many(&[], RequestOptions::default()).unwrap_err();
    assert_eq!(none, Refused::Len);
    let held = engine.lease_many(2).unwrap();
    for _ in 0..3 {
        assert_eq!(engine.lease_many(3).unwrap_err(), Refused::Full);
    }
    drop((engine.lease_many(2).unwrap(), held));
    // Results that are kept: of eight places two are left.
    let kept: Vec<Answer> = engine
        .submit_many(&images(1..4), RequestOptions::default())
        .unwrap()
        .wait()
        .chain(engine.submit_many(&images(4..7), RequestOptions::default()).unwrap().wait())
        .collect();
    assert_eq!(engine.lease_many(3).unwrap_err(), Refused::Full);
    drop(engine.lease_many(2).unwrap());
    for (number, answer) in (1..7).zip(kept) {
        assert_right(answer, number);
    }
    drop(engine.lease_many(4).unwrap());
    assert_eq!(engine.stats().slots_in_use, 0);
}

#[test]
fn cancelling_and_dropping_meet_every_image() {
    let engine = start(SLOW, small());
    for _ in 1..5 {
        let ticket = engine.submit_many(&images(1..5), RequestOptions::default()).unwrap();
        ticket.cancel();
        ticket.cancel();
        let answers = ticket.wait();
        let outcome = answers.outcome();
        let mut failures = Vec::new();
        for (number, answer) in (1..5).zip(answers) {
            match answer {
                Err(failure) => failures.push(failure),
                right => assert_right(right, number),
            }
        }
        assert_eq!(outcome.err(), failures.first().copied());
        assert!(failures.iter().all(|failure| *failure == Failure::Cancelled));
        drop(engine.submit_many(&images(1..5), RequestOptions::default()).unwrap());
        until("dropped images end", || engine.stats().slots_in_use == 0);
        // And free their results' places: two times four.
        drop([(); 2].map(|()| submit_and_keep(&engine)));
    }
    until("all have ended", || engine.stats().alive_len == 0);
    assert!(engine.stats().cancelled >= 16, "{:?}", engine.stats());
}

fn submit_and_keep(engine: &Engine) -> Vec<Answer> {
    engine.submit_many(&images(1..5), RequestOptions::default()).unwrap().wait().collect()
}

#[test]
fn a_deadline_is_that_of_each_image() {
    let engine = start(Plan::default(), small());
    let past = RequestOptions::default().deadline(Some(Instant::now()));
    let answers = engine.submit_many(&images(1..4), past).unwrap().wait();
    assert_eq!(answers.outcome(), Err(Failure::Rejected));
    assert!(answers.into_iter().all(|answer| answer.unwrap_err() == Failure::Rejected));
    let later = past.deadline(Some(Instant::now() + LONG));
    assert_all_right(engine.submit_many(&images(1..4), later).unwrap().wait(), 1..4);
    until("rejected", || engine.stats().rejected == 3);
}

/// Goal: images fail each by itself, and the whole tells of the first. Method: batches of one on a
/// device that fails now and then.
#[test]
fn each_image_has_an_answer_of_its_own() {
    let plan = Plan { fail_one_in: 6, spared: calibration_len(1), ..Plan::default() };
    let engine = start(plan, small().batch_len_max(1));
    let (mut right, mut failed, mut mixed) = (0, 0, 0);
    for _ in 0..100 {
        let answers = engine.submit_many(&images(1..5), RequestOptions::default()).unwrap().wait();
        let outcome = answers.outcome();
        let answers: Vec<Answer> = answers.collect();
        let failures: Vec<Failure> =
            answers.iter().filter_map(|answer| answer.as_ref().err().copied()).collect();
        assert_eq!(outcome.err(), failures.first().copied());
        mixed += usize::from(!failures.is_empty() && failures.len() < 4);
        for (number, answer) in (1..5).zip(answers) {
            match answer {
                Err(failure) => {
                    assert_eq!(failure, Failure::Failed);
                    failed += 1;
                }
                answer => {
                    assert_right(answer, number);
                    right += 1;
                }
            }
        }
    }
    assert!(right > 20 && failed > 20 && mixed > 20, "{right} {failed} {mixed}");
}

#[test]
fn the_end_of_the_engine_refuses_or_ends_all_of_them() {
    struct Woken(AtomicUsize);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let options = RequestOptions::default();

    let engine = start(Plan { delay_us_max: 300, ..Plan::default() }, small());
    let ticket = lease(&engine, 1..4).commit_waking(options, &waker).unwrap();
    until("the waker is woken", || woken.0.load(Ordering::Acquire) == 1);
    assert!(ticket.is_ended() && ticket.timing().is_some());
    assert_all_right(ticket.wait(), 1..4);
    let mut held = [engine.lease_many(2).unwrap(), engine.lease_many(2).unwrap()].into_iter();
    assert!(engine.drain(LONG));
    assert_eq!(engine.lease_many(2).unwrap_err(), Refused::ShutDown);
    let refused = held.next().unwrap().commit_waking(options, &waker).unwrap_err();
    assert_eq!(refused, Refused::ShutDown);
    let (sender, receiver) = mpsc::sync_channel(1);
    let calls = Arc::new(Calls(sender));
    let refused = held.next().unwrap().commit_with(options, calls, 1).unwrap_err();
    assert_eq!(refused, Refused::ShutDown);
    assert!(receiver.recv().is_err(), "the handler was let go uncalled");
    assert_eq!(engine.stats().slots_in_use, 0);
    drop((waker, engine));
    assert_eq!((Arc::strong_count(&woken), woken.0.load(Ordering::Acquire)), (1, 1));

    let engine = start(SLOW, small());
    let ticket = engine.submit_many(&images(1..5), options).unwrap();
    assert!(ticket.timing().is_none());
    let ticket = ticket.wait_timeout(Duration::from_micros(1)).unwrap_err();
    assert!(!engine.drain(Duration::ZERO));
    drop(engine);
    let answers = ticket.wait();
    assert_eq!(answers.outcome(), Err(Failure::ShutDown));
    assert!(answers.into_iter().all(|answer| answer.unwrap_err() == Failure::ShutDown));
}

/// Goal: whatever threads take and give up at the same time, no slot is lost and nothing stands
/// still. Method: groups of drawn lengths on few slots, each way to end them drawn too; afterwards
/// all slots are there.
#[test]
fn threads_that_lease_many_leave_nothing_behind() {
    const SLOT_LEN: usize = 12;
    let device = Device::new(IMAGE_BYTES, 8, Plan { delay_us_max: 50, ..Plan::default() }, 1);
    let engine = Engine::start(device, &small().slot_len(SLOT_LEN)).unwrap();
    let leased = Mutex::new([0_usize; SLOT_LEN + 1]);
    thread::scope(|scope| {
        for seed in 0..4 {
            let (engine, leased) = (&engine, &leased);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                let start = Instant::now();
                let mut done = 0;
                while done < 400 {
                    assert!(start.elapsed() < LONG, "stands still after {done}");
                    let len = 1 + random.below(SLOT_LEN as u64) as u8;
                    let Ok(mut many) = engine.lease_many(usize::from(len)) else {
                        thread::yield_now();
                        continue;
                    };
                    done += 1;
                    leased.lock().unwrap()[usize::from(len)] += 1;
                    for (place, number) in many.images_mut().zip(1..) {
                        place.copy_from_slice(&image(number));
                    }
                    if random.chance(5) {
                        continue;
                    }
                    let ticket = many.commit(RequestOptions::default()).unwrap();
                    if random.chance(5) {
                        continue;
                    }
                    assert_all_right(ticket.wait(), 1..1 + len);
                }
            });
        }
    });
    until("dropped images end", || engine.stats().slots_in_use == 0);
    drop([(); 2].map(|()| {
        let numbers = 1..1 + SLOT_LEN as u8;
        let answers = engine.submit_many(&images(numbers), RequestOptions::default()).unwrap();
        answers.wait().collect::<Vec<_>>()
    }));
    println!("leases by length: {:?}", leased.lock().unwrap());
}

/// Commits a request that is late already as each before it is rejected, last of all a group.
struct Refills {
    own: Weak<Self>,
    engine: Weak<Engine>,
    tickets: mpsc::SyncSender<ManyTicket>,
}

impl Refills {
    fn commit(&self, tag: u64) {
        let lease = self.engine.upgrade().unwrap().lease().unwrap();
        let late = Instant::now().checked_sub(LONG).unwrap();
        let late = RequestOptions::default().deadline(Some(late));
        lease.commit_with(late, self.own.upgrade().unwrap(), tag).unwrap();
    }
}

impl Handler for Refills {
    fn answered(&self, tag: u64, answer: Answer) {
        assert_eq!(answer.unwrap_err(), Failure::Rejected);
        if tag > 1 {
            return self.commit(tag - 1);
        }
        let lease = lease(&self.engine.upgrade().unwrap(), 1..4);
        self.tickets.send(lease.commit(RequestOptions::default()).unwrap()).unwrap();
    }
}

/// Goal: a group is not taken apart where the scheduling thread pauses to admit requests: when it
/// has taken as many as there are slots. Method: the first of three is the fourth of four.
#[test]
fn a_group_is_admitted_as_a_whole() {
    let engine = Arc::new(start(Plan::default(), small().policy(PolicySpec::Serial)));
    let (tickets, ticket) = mpsc::sync_channel(1);
    let refills = Arc::new_cyclic(|own| Refills {
        own: Weak::clone(own),
        engine: Arc::downgrade(&engine),
        tickets,
    });
    refills.commit(3);
    let answers = ticket.recv_timeout(LONG).unwrap().wait();
    let batch_lens: Vec<_> = answers.map(|answer| answer.unwrap().timing().batch_len).collect();
    assert_eq!(batch_lens, [3; 3]);
}

/// Goal: a handler that panics for one image of several is called for the others all the same.
#[test]
fn a_panic_for_one_image_costs_no_other_its_answer() {
    let engine = start(Plan::default(), small());
    let (told, heard) = mpsc::channel();
    let handler = move |tag: u64, answer: Answer| {
        told.send((tag, answer.is_ok())).unwrap();
        panic!("at every image, on purpose");
    };
    let options = RequestOptions::default();
    lease(&engine, 1..4).commit_with(options, Arc::new(handler), 7).unwrap();
    for _ in 0..3 {
        assert_eq!(heard.recv_timeout(LONG), Ok((7, true)));
    }
    assert!(engine.drain(LONG));
    assert_eq!(engine.stats().completed, 3);
}
