//! What a crash of QEMU, a crash of this server or a cancellation leaves at each step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wsnapd::backend::{BoxFuture, Interrupted, Journal, JournalStep, NoJournal, Progress};

use super::*;
use crate::qemu_peer::ms;

/// Bytes a second at which eight MiB take long enough to do something meanwhile.
const SLOW: u64 = 1 << 20;

/// A call that runs by itself, and the ways to watch and to stop it.
struct Running {
    task: JoinHandle<Result<(), BackendError>>,
    progress: watch::Receiver<Progress>,
    cancel: CancellationToken,
}

impl Running {
    /// Gives up a snapshot, or only tidies up.
    fn start(house: &mut House, snapshot: Option<Guid>, journal: Arc<dyn Journal>) -> Self {
        let (sender, progress) = watch::channel(Progress::default());
        let cancel = CancellationToken::new();
        let control = StepControl::new(journal, sender, cancel.clone());
        let (overlays, monitor) = (house.overlays.clone(), house.monitor.clone());
        if let Some(snapshot) = snapshot {
            house.taken.remove(&snapshot);
        }
        let task = tokio::spawn(async move {
            match snapshot {
                Some(snapshot) => overlays.destroy(monitor.as_ref(), snapshot, job(), &control).await,
                None => overlays.tidy(monitor.as_ref(), id(88_888), &control).await,
            }
        });
        Self { task, progress, cancel }
    }

    /// Waits until something, and not all, has been copied.
    async fn under_way(&mut self) {
        let part = |progress: &Progress| progress.done > 0 && progress.done < progress.total;
        tokio::time::timeout(LONG, self.progress.wait_for(part)).await.expect("no progress").unwrap();
    }

    /// Ends it in the middle, as the end of the server would.
    async fn abort(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    async fn end(self) -> Result<(), BackendError> {
        tokio::time::timeout(LONG, self.task).await.expect("it does not end").unwrap()
    }
}

/// A journal that never returns from the step before the pause, and tells when it is there.
struct StuckBeforePause(watch::Sender<bool>);

impl Journal for StuckBeforePause {
    fn record(&self, step: JournalStep) -> BoxFuture<'_, Result<(), Interrupted>> {
        Box::pin(async move {
            if matches!(step, JournalStep::Paused { .. }) {
                self.0.send_replace(true);
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    }
}

async fn tidy(house: &House) {
    house.overlays.tidy(house.monitor.as_ref(), id(77_777), &StepControl::detached()).await.unwrap();
}

/// A running machine with two snapshots and eight MiB in each layer.
async fn filled() -> House {
    let mut house = House::new();
    house.start().await;
    for (number, value) in [(1, 0x21), (2, 0x31)] {
        house.snapshot(id(number)).await;
        for place in 0..8 {
            house.write(place + usize::try_from(number).unwrap(), value).await;
        }
    }
    house
}

/// A machine whose topmost merge has come to the point where the guest is about to be stopped; then the server died.
async fn before_the_pause() -> House {
    let mut house = House::new();
    house.start().await;
    house.snapshot(id(1)).await;
    house.write(2, 0x41).await;
    let (sender, mut there) = watch::channel(false);
    let running = Running::start(&mut house, Some(id(1)), Arc::new(StuckBeforePause(sender)));
    tokio::time::timeout(LONG, there.wait_for(|there| *there)).await.expect("it does not come to the pause").unwrap();
    running.abort().await;
    house.write(3, 0x42).await;
    house
}

#[tokio::test]
async fn a_crash_between_the_pointer_and_the_transaction() {
    // Of QEMU: the overlay is empty, and the next start takes it.
    let mut house = House::new();
    let monitor = house.start().await;
    house.overlays.add(&monitor, &house.disk, id(1)).await.unwrap();
    house.write(0, 1).await;
    house.kill();
    assert_ne!(house.overlays.active(&house.disk).unwrap().file, house.disk.path);
    house.check();
    house.start().await;
    house.write(1, 2).await;
    house.destroy(id(1)).await.unwrap();
    house.check_plain();
    house.quit().await;

    // The same, with the snapshot taken back before the next start.
    let monitor = house.start().await;
    house.overlays.add(&monitor, &house.disk, id(2)).await.unwrap();
    house.write(2, 3).await;
    house.kill();
    house.destroy(id(2)).await.unwrap();
    house.check_plain();

    // Of the server: QEMU still writes to the old file.
    let monitor = house.start().await;
    house.overlays.add(&monitor, &house.disk, id(3)).await.unwrap();
    drop(monitor);
    let monitor = house.reconnect().await;
    house.write(3, 4).await;
    house.overlays.reconcile(&monitor).await.unwrap();
    assert_eq!(house.overlays.active(&house.disk).unwrap().file, house.disk.path);
    house.destroy(id(3)).await.unwrap();
    house.check_plain();
}

#[tokio::test]
async fn a_crash_after_the_transaction() {
    let mut house = House::new();
    house.start().await;
    house.snapshot(id(1)).await;
    house.kill();
    house.check();
    house.start().await;
    house.write(0, 1).await;
    house.kill();
    house.check();
    house.start().await;
    house.destroy(id(1)).await.unwrap();
    house.kill();
    house.check_plain();
}

#[tokio::test]
async fn a_merge_is_cancelled() {
    for (snapshot, value) in [(id(1), 0x51), (id(2), 0x52)] {
        let mut house = filled().await;
        if snapshot == id(2) {
            // So that the topmost layer goes into the file that has the brake.
            house.destroy(id(1)).await.unwrap();
        }
        house.brake(SLOW).await;
        let mut running = Running::start(&mut house, Some(snapshot), Arc::new(NoJournal));
        running.under_way().await;
        let asked = Instant::now();
        running.cancel.cancel();
        let error = running.end().await.unwrap_err();
        assert!(error.is_cancelled(), "{error}");
        // What is on its way is still written, and the brake lets a MiB a second through.
        assert!(asked.elapsed() < ms(12_000), "{:?}", asked.elapsed());
        assert!(house.is_running().await);
        assert_eq!(house.jobs().await, 0);
        house.write(15, value).await;
        house.check();
        house.brake(0).await;
        tidy(&house).await;
        house.check();
        house.kill();
        house.check();
    }
}

#[tokio::test]
async fn a_merge_that_is_cancelled_before_the_pause_keeps_the_layer() {
    let mut house = House::new();
    house.start().await;
    house.snapshot(id(1)).await;
    house.write(0, 1).await;
    let running = Running::start(&mut house, Some(id(1)), Arc::new(NoJournal));
    running.cancel.cancel();
    assert!(running.end().await.unwrap_err().is_cancelled());
    assert_eq!(house.jobs().await, 0);
    assert!(house.is_running().await);
    house.check();
    tidy(&house).await;
    house.check_plain();
}

#[tokio::test]
async fn a_merge_outlives_the_server() {
    let mut house = filled().await;
    house.brake(SLOW).await;
    let mut running = Running::start(&mut house, Some(id(1)), Arc::new(NoJournal));
    running.under_way().await;
    running.abort().await;
    let monitor = house.reconnect().await;
    assert_eq!(house.jobs().await, 1);
    // Nobody else may read the snapshots in the middle of the chain while QEMU copies.
    house.write(15, 0x61).await;
    // It is gone on with, under the name it was begun with.
    let mut running = Running::start(&mut house, None, Arc::new(NoJournal));
    running.under_way().await;
    assert_eq!(house.jobs().await, 1);
    house.brake(0).await;
    running.end().await.unwrap();
    assert_eq!((house.jobs().await, house.files().len()), (0, 1));
    house.check();

    // Or ended, by a server that wants its machine for itself.
    house.brake(SLOW).await;
    let mut running = Running::start(&mut house, Some(id(2)), Arc::new(NoJournal));
    running.under_way().await;
    running.abort().await;
    drop(monitor);
    let monitor = house.reconnect().await;
    house.overlays.cancel_merge(&monitor).await.unwrap();
    assert_eq!(house.jobs().await, 0);
    house.write(15, 0x62).await;
    house.check();
    house.brake(0).await;
    tidy(&house).await;
    house.check_plain();
}

#[tokio::test]
async fn qemu_is_killed_in_the_middle_of_a_merge() {
    for first in [false, true] {
        let mut house = filled().await;
        if first {
            house.destroy(id(1)).await.unwrap();
        }
        house.brake(SLOW).await;
        let snapshot = if first { id(2) } else { id(1) };
        let mut running = Running::start(&mut house, Some(snapshot), Arc::new(NoJournal));
        running.under_way().await;
        house.write(14, 0x71).await;
        house.kill();
        let error = running.end().await.unwrap_err();
        assert!(matches!(error.cause, Cause::Unreachable(_)), "{error}");
        house.check();
        tidy(&house).await;
        house.check();
        assert_eq!(house.files().len(), usize::from(!first));
        house.start().await;
        house.write(13, 0x72).await;
        house.check();
    }
}

#[tokio::test]
async fn qemu_is_killed_as_soon_as_a_merge_has_ended() {
    let mut house = filled().await;
    house.snapshot(id(3)).await;
    house.write(0, 0x81).await;
    // Both files are qcow2: what QEMU has not yet written of their tables would be lost now.
    house.destroy(id(2)).await.unwrap();
    house.kill();
    house.check();
    house.start().await;
    house.write(0, 0x82).await;
    house.destroy(id(3)).await.unwrap();
    house.kill();
    house.check();
}

#[tokio::test]
async fn qemu_dies_after_it_changed_the_disk_and_before_the_pointer_moved() {
    let mut house = before_the_pause().await;
    change_the_disk(&house, true).await;
    house.kill();
    // The pointer names the overlay, which shows the same content.
    assert_ne!(house.overlays.active(&house.disk).unwrap().file, house.disk.path);
    house.check();
    house.start().await;
    house.write(4, 0x91).await;
    house.check();
    house.kill();
    tidy(&house).await;
    house.check_plain();
}

#[tokio::test]
async fn the_server_dies_around_the_change_of_the_disk() {
    for (changed, waited) in [(true, true), (true, false), (false, false)] {
        let mut house = before_the_pause().await;
        if changed {
            change_the_disk(&house, waited).await;
        } else {
            house.monitor.as_ref().unwrap().execute(qmp::stop {}, LONG).await.unwrap();
        }
        let monitor = house.reconnect().await;
        house.overlays.reconcile(&monitor).await.unwrap();
        if waited || !changed {
            assert_eq!(house.overlays.active(&house.disk).unwrap().file == house.disk.path, changed);
        }
        monitor.execute(qmp::cont {}, LONG).await.unwrap();
        house.write(5, 0x92).await;
        house.check();
        tidy(&house).await;
        assert_eq!(house.jobs().await, 0);
        house.check_plain();
        house.kill();
        house.check_plain();
    }
}

/// What the server does at the end of a topmost merge, without the pointer.
async fn change_the_disk(house: &House, wait: bool) {
    let monitor = house.monitor.as_ref().unwrap();
    monitor.execute(qmp::stop {}, LONG).await.unwrap();
    let name = format!("job-{}", job());
    monitor.execute(qmp::job_complete { id: name }, LONG).await.unwrap();
    while wait && monitor.execute(qmp::query_jobs {}, LONG).await.unwrap()[0].status != qmp::JobStatus::concluded {
        tokio::time::sleep(ms(5)).await;
    }
}

#[tokio::test]
async fn a_merge_by_the_tool_is_cut_off() {
    let mut house = filled().await;
    house.quit().await;
    for delay in [0, 3, 6, 10, 15] {
        let running = Running::start(&mut house, Some(id(1)), Arc::new(NoJournal));
        tokio::time::sleep(ms(delay)).await;
        running.task.abort();
        // It may have ended already.
        let _ = running.task.await;
        house.check();
    }
    tidy(&house).await;
    house.check();
    let running = Running::start(&mut house, Some(id(2)), Arc::new(NoJournal));
    running.cancel.cancel();
    assert!(running.end().await.unwrap_err().is_cancelled());
    house.check();
    tidy(&house).await;
    house.check_plain();
}

/// Rounds of random work and random death, the same ones each time.
#[tokio::test]
async fn any_instant() {
    let mut house = House::new();
    house.start().await;
    let mut seed = 20_261_121_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for round in 1..=8 {
        house.snapshot(id(round)).await;
        for _ in 0..3 {
            let place = usize::try_from(random(16)).unwrap();
            house.write(place, u8::try_from(random(250)).unwrap()).await;
        }
        let delay = Duration::from_millis(random(120));
        let count = u64::try_from(house.taken.len()).unwrap();
        let victim = *house.taken.keys().nth(usize::try_from(random(count)).unwrap()).unwrap();
        let running = Running::start(&mut house, Some(victim), Arc::new(NoJournal));
        tokio::time::sleep(delay).await;
        if random(2) == 0 {
            house.kill();
            // Whether it was done before is of no interest.
            let _ = running.end().await;
            house.check();
            if random(2) == 0 {
                tidy(&house).await;
                house.check();
            }
            house.start().await;
        } else {
            running.task.abort();
            let _ = running.task.await;
            let monitor = house.reconnect().await;
            house.overlays.reconcile(&monitor).await.unwrap();
            if !house.is_running().await {
                monitor.execute(qmp::cont {}, LONG).await.unwrap();
            }
            house.write(0, u8::try_from(round).unwrap()).await;
            house.check();
        }
        tidy(&house).await;
        house.check();
        assert_eq!(house.jobs().await, 0);
    }
    for snapshot in house.taken.keys().copied().collect::<Vec<_>>() {
        house.destroy(snapshot).await.unwrap();
    }
    house.check_plain();
}
