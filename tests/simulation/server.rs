//! The server: the real core and codec, the real horizon, the real logic of the store thread; what is a
//! socket, a channel or a clock elsewhere is a list and an argument here.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anthill::codec::message::Incoming;
use anthill::codec::{ByteOrder, Framing, Order, Step, decode, decode_body, emit, emit_push};
use anthill::handlers::effect::{Effect, Effects};
use anthill::handlers::request::{Datagram, Request, Response};
use anthill::handlers::{Core, End, Flow, Input, Moment, Rules};
use anthill::ids::ConnId;
use anthill::limits::{
    BATCH_OPS_MAX, BATCHES_WAITING_MAX, FRAME_BYTES_MAX, HORIZON_LAG_MS_MAX, HOSTS_PER_STEP_MAX,
    SENDS_PER_TURN_MAX,
};
use anthill::reactor::horizon::Horizon;
use anthill::store::op::{Batch, Op, Outcome};
use anthill::store::spool::Spool;
use anthill::store::worker::{Next, Plan, StoreStats, Worker};
use anthill::time::{Instant, Span, UnixMs};

use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::network::{Chunk, Network, ServerEnd, soonest};
use crate::store::{Shared, ThreadClock};

/// Silence after which a host is offline, here.
pub const TIMEOUT: Span = Span::from_secs(15);
/// Longest silence of a busy plain host.
pub const WORKING_TIMEOUT: Span = Span::from_secs(60);
const FRAMING: Framing = Framing {
    order: ByteOrder::Auto,
    limit: FRAME_BYTES_MAX,
};
/// So much turning that never read all may let the horizon go on, and a little less by its grain.
const FLOOD: Span = Span::from_millis(HORIZON_LAG_MS_MAX * 4 / 5);
/// Address of the server for hosts.
pub const ADDRESS: &str = "10.9.0.1:11451";
const SPOOL_BYTES: u64 = 64 << 20;

/// One connection, as the server has it.
#[derive(Debug, Default)]
struct Socket {
    link: u64,
    inbox: Vec<u8>,
    order: Order,
    /// Raw bytes that are to come.
    raw: u64,
    /// Not read until it is resumed.
    waits: bool,
    /// Time from which it can be read: its resumption or its arrival.
    readable: Instant,
    /// Bytes to be sent at the end of the turn.
    out: Vec<u8>,
}

/// The store thread, turned by hand.
struct Thread {
    worker: Worker,
    stats: Arc<StoreStats>,
    channel: VecDeque<Batch>,
    busy_until: Instant,
    next: Next,
    told: VecDeque<(Instant, Vec<Outcome>)>,
}

/// A running server.
pub struct Server {
    pub core: Core,
    horizon: Horizon,
    sockets: BTreeMap<ConnId, Socket>,
    free: Vec<u32>,
    generation: u32,
    thread: Thread,
    deadline: Option<Instant>,
    /// Start of the wait that the next turn ends.
    waits_since: Instant,
    /// A connection is left unread, or the send queue has entries.
    is_ready: bool,
    /// Some may be read on, and have not been yet.
    has_resumed: bool,
    wall: Arc<AtomicU64>,
    fx: Effects,
    /// It does not turn before that.
    pub stopped_until: Instant,
}

/// Context of a turn.
pub struct Around<'a> {
    pub now: Instant,
    pub network: &'a mut Network,
    pub dice: &'a mut Dice,
    pub ledger: &'a mut Ledger,
    /// Turns may leave something unread.
    pub is_busy: bool,
    /// Work on many hosts may be left for the next turn.
    pub has_rollouts: bool,
}

fn rules(seed: u64) -> Rules {
    Rules {
        timeout: TIMEOUT,
        first_message: Span::from_secs(5),
        working_timeout: WORKING_TIMEOUT,
        key_prefix: "AC".to_owned(),
        keep: Span::from_secs(7 * 86_400),
        hosts_max: 1_000,
        agent_port: 6655,
        rto: Span::from_secs(1),
        tries: 5,
        result_bytes: 1 << 20,
        certificates: false,
        seed,
    }
}

impl Server {
    /// Starts one over what its disk and the store hold.
    pub fn start(
        process: u64,
        store: &Shared,
        spool: &Path,
        wall: &Arc<AtomicU64>,
        now: Instant,
        dice: &mut Dice,
    ) -> Self {
        let plan = Plan {
            spool_dir: spool.to_owned(),
            spool_bytes: SPOOL_BYTES,
            flush: Span::from_millis(if dice.one_in(2) { 0 } else { 50 }),
            retry: Span::from_secs(1),
            grace: Span::from_secs(60),
            seed: dice.number(),
        };
        let maker = store.clone();
        let clock = ThreadClock {
            shared: store.clone(),
            wall: Arc::clone(wall),
        };
        let spool = Spool::open(spool, SPOOL_BYTES).expect("the server before it is dead");
        store.get().elapsed = Span::ZERO;
        let stats = Arc::<StoreStats>::default();
        let worker = Worker::new(
            Box::new(move || maker.connection(process)),
            plan,
            spool,
            Box::new(clock),
            Arc::clone(&stats),
        );
        Self {
            core: Core::new(rules(dice.number()), process << 32),
            horizon: Horizon::default(),
            sockets: BTreeMap::new(),
            free: Vec::new(),
            generation: 0,
            thread: Thread {
                worker,
                stats,
                channel: VecDeque::new(),
                busy_until: now,
                next: Next::Now,
                told: VecDeque::new(),
            },
            deadline: None,
            waits_since: now,
            is_ready: true,
            has_resumed: false,
            wall: Arc::clone(wall),
            fx: Effects::default(),
            stopped_until: now,
        }
    }

    /// Both clocks.
    fn moment(&self, now: Instant) -> Moment {
        Moment {
            now,
            wall: UnixMs(self.wall.load(Ordering::Relaxed)),
        }
    }

    /// Time of its next work.
    pub fn next(&self, network: &Network) -> Option<Instant> {
        let links = network.links.values().map(|link| match link.server {
            ServerEnd::Knocking(at) => Some(at),
            ServerEnd::Open(conn) => {
                let waits = self.sockets.get(&conn).is_some_and(|socket| socket.waits);
                link.up.next().filter(|_| !waits)
            }
            ServerEnd::Gone => None,
        });
        let told = self.thread.told.front().map(|(at, _)| *at);
        let ready = self.is_ready.then_some(Instant::ZERO);
        let own = soonest(links.chain([told, self.deadline, ready]));
        own.map(|at| at.max(self.waits_since).max(self.stopped_until))
    }

    /// Time of the next work of its store thread.
    pub fn next_of_thread(&self) -> Option<Instant> {
        let thread = &self.thread;
        let asked = !thread.channel.is_empty() && thread.worker.has_room();
        let at = match thread.next {
            Next::Over => return None,
            Next::Now => Instant::ZERO,
            Next::At(_) if asked => Instant::ZERO,
            Next::At(at) => at,
        };
        Some(at.max(thread.busy_until).max(self.stopped_until))
    }

    /// One step of the store thread.
    pub fn turn_thread(&mut self, now: Instant, store: &Shared) {
        store.get().elapsed = Span::ZERO;
        let thread = &mut self.thread;
        if thread.worker.has_room()
            && let Some(batch) = thread.channel.pop_front()
        {
            thread.worker.take(batch);
        }
        thread.next = thread.worker.turn();
        let outcomes = thread.worker.outcomes();
        let wrong = store.get().arrows.wrong.take();
        assert_eq!(wrong, None, "in the store");
        let restarts = thread.stats.restarts.get();
        assert_eq!(restarts, 0, "the store thread has panicked");
        let took = std::mem::take(&mut store.get().elapsed);
        thread.busy_until = now + took + Span::from_micros(50);
        if !outcomes.is_empty() {
            thread.told.push_back((thread.busy_until, outcomes));
        }
    }

    /// Nothing waits anywhere between it and the store.
    pub fn is_drained(&self) -> bool {
        self.core.settled() && self.thread.channel.is_empty() && self.thread.told.is_empty()
    }

    /// One turn, in the order of the reactor's.
    pub fn turn(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        let all_told = self.read(around);
        let accepted_all = self.accept(around);
        self.receive(around);
        self.mail(around);
        let all_told = all_told && !std::mem::take(&mut self.has_resumed);
        let horizon = self.horizon.turn(self.waits_since, all_told, accepted_all);
        around.ledger.horizon = horizon;
        self.assert_honest(horizon, around);
        let mut fx = std::mem::take(&mut self.fx);
        self.deadline = self.core.tick(horizon, self.moment(now), &mut fx);
        if let Some(deadline) = self.deadline {
            assert!(deadline > horizon, "a deadline is later than the horizon");
        }
        self.fx = fx;
        self.apply(around);
        let more = self.send(around);
        self.hand_over(around);
        self.flush(around);
        self.is_ready = !all_told || !accepted_all || more || self.has_resumed;
        around.ledger.after_turn(&self.core);
        self.waits_since = now + around.dice.ms(1, 3);
    }

    /// Asserts that nothing that arrived before the horizon is unread, and no connection from
    /// before it waits, unless turning has been the only activity for long.
    fn assert_honest(&self, horizon: Instant, around: &Around<'_>) {
        for (id, link) in &around.network.links {
            let came = match link.server {
                ServerEnd::Knocking(at) => Some(at),
                ServerEnd::Open(conn) => {
                    // What had to wait is not judged by when it came: its deadline begins anew.
                    let socket = self.sockets.get(&conn).filter(|socket| !socket.waits);
                    let readable = socket.map(|socket| socket.readable);
                    readable.and_then(|at| Some(link.up.next()?.max(at)))
                }
                ServerEnd::Gone => None,
            };
            let Some(came) = came else { continue };
            assert!(
                horizon <= came || around.now.since(came) >= FLOOD,
                "what came by {id} at {came:?} waits, and {horizon:?} is the horizon"
            );
        }
    }

    /// Reads what has come. Whether all of it has been read.
    fn read(&mut self, around: &mut Around<'_>) -> bool {
        let mut conns: Vec<(u64, ConnId)> = Vec::new();
        for (id, link) in &around.network.links {
            if let ServerEnd::Open(conn) = link.server
                && link.up.next().is_some_and(|at| at <= around.now)
            {
                conns.push((*id, conn));
            }
        }
        shuffle(&mut conns, around.dice);
        let mut all = true;
        for (link, conn) in conns {
            if around.is_busy && around.dice.one_in(6) {
                all = false;
                continue;
            }
            self.serve(link, conn, around);
        }
        all
    }

    fn serve(&mut self, link: u64, conn: ConnId, around: &mut Around<'_>) {
        loop {
            if self.sockets.get(&conn).is_none_or(|socket| socket.waits) {
                return;
            }
            let up = around.network.links.get_mut(&link).map(|link| &mut link.up);
            let Some((_, chunk)) = up.and_then(|up| up.pop(around.now)) else {
                return;
            };
            let end = match chunk {
                Chunk::Bytes(bytes) => {
                    if let Some(socket) = self.sockets.get_mut(&conn) {
                        socket.inbox.extend_from_slice(&bytes);
                    }
                    self.digest(conn, around);
                    continue;
                }
                Chunk::Fin => End::Closed,
                Chunk::Reset => End::Reset,
                Chunk::Dead => End::Dead,
            };
            self.forget(conn, around);
            around.ledger.ended(conn, end);
            self.input(Input::Ended { conn, end }, around);
        }
    }

    /// Hands in the frames that are whole.
    fn digest(&mut self, conn: ConnId, around: &mut Around<'_>) {
        while let Some(socket) = self.sockets.get_mut(&conn) {
            if socket.waits || socket.inbox.is_empty() {
                return;
            }
            let inbox = std::mem::take(&mut socket.inbox);
            let raw = usize::try_from(socket.raw).unwrap_or(usize::MAX);
            let used = match raw {
                0 => self.frame(conn, &inbox, around),
                raw => self.raw(conn, &inbox[..raw.min(inbox.len())], around),
            };
            if let Some(socket) = self.sockets.get_mut(&conn) {
                socket.inbox = inbox[used.unwrap_or(0)..].to_vec();
            }
            if used.is_none() {
                return;
            }
        }
    }

    /// One frame: how many bytes it had, unless it is not whole or has to wait.
    fn frame(&mut self, conn: ConnId, bytes: &[u8], around: &mut Around<'_>) -> Option<usize> {
        let order = &mut self.sockets.get_mut(&conn)?.order;
        match decode(FRAMING, order, bytes) {
            Ok(Step::Need(_)) => None,
            Ok(Step::Got { incoming, used }) => {
                around.ledger.comes(conn, &incoming);
                match self.message(conn, incoming, around) {
                    Flow::Taken => Some(used),
                    Flow::Raw(raw) => {
                        self.sockets.get_mut(&conn)?.raw = raw;
                        Some(used)
                    }
                    Flow::Wait => None,
                }
            }
            Err(error) => {
                self.input(Input::Abnormal { conn, error }, around);
                None
            }
        }
    }

    fn message(&mut self, conn: ConnId, incoming: Incoming<'_>, around: &mut Around<'_>) -> Flow {
        let flag = incoming.message.flag();
        let flow = self.hand_in(Input::Message { conn, incoming }, around);
        if flow == Flow::Wait {
            if let Some(socket) = self.sockets.get_mut(&conn) {
                socket.waits = true;
            }
        } else {
            around.ledger.taken(around.now, conn, flag);
        }
        self.apply(around);
        flow
    }

    fn raw(&mut self, conn: ConnId, bytes: &[u8], around: &mut Around<'_>) -> Option<usize> {
        match self.hand_in(Input::Raw { conn, bytes }, around) {
            Flow::Wait => {
                self.sockets.get_mut(&conn)?.waits = true;
                self.apply(around);
                return None;
            }
            Flow::Taken => {
                if let Some(socket) = self.sockets.get_mut(&conn) {
                    socket.raw -= bytes.len() as u64;
                }
            }
            Flow::Raw(left) => {
                if let Some(socket) = self.sockets.get_mut(&conn) {
                    socket.raw = left;
                }
            }
        }
        if self
            .sockets
            .get(&conn)
            .is_some_and(|socket| socket.raw == 0)
        {
            // Pieces of less than a message's length count when all have come.
            around.ledger.heard(around.now, conn);
        }
        self.apply(around);
        Some(bytes.len())
    }

    fn hand_in(&mut self, input: Input<'_>, around: &Around<'_>) -> Flow {
        let at = self.moment(around.now);
        self.core.handle(at, input, &mut self.fx)
    }

    fn input(&mut self, input: Input<'_>, around: &mut Around<'_>) {
        let flow = self.hand_in(input, around);
        assert_eq!(flow, Flow::Taken, "only messages are turned away");
        self.apply(around);
    }

    /// Accepts connections. Returns whether the queue is empty.
    fn accept(&mut self, around: &mut Around<'_>) -> bool {
        let mut knocking = Vec::new();
        for (id, link) in &around.network.links {
            if let ServerEnd::Knocking(at) = link.server
                && at <= around.now
            {
                knocking.push((*id, link.peer, at));
            }
        }
        let mut all = true;
        for (id, peer, knocked) in knocking {
            if around.is_busy && around.dice.one_in(6) {
                all = false;
                continue;
            }
            self.generation += 1;
            let slot = self.free.pop().unwrap_or(self.sockets.len() as u32);
            let conn = ConnId {
                slot,
                generation: self.generation,
            };
            let link = Socket {
                link: id,
                readable: knocked,
                ..Socket::default()
            };
            self.sockets.insert(conn, link);
            if let Some(link) = around.network.links.get_mut(&id) {
                link.server = ServerEnd::Open(conn);
            }
            around.ledger.opened(around.now, conn, peer);
            self.input(Input::Opened { conn, peer }, around);
        }
        all
    }

    /// Datagrams of hosts.
    fn receive(&mut self, around: &mut Around<'_>) {
        let own: SocketAddr = ADDRESS.parse().expect("an address");
        let now = around.now;
        let is_ours = |to: &SocketAddr| to.ip() == own.ip();
        let (mine, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut around.network.parcels)
            .into_iter()
            .partition(|parcel| is_ours(&parcel.to) && parcel.at <= now);
        around.network.parcels = rest;
        for parcel in mine {
            if let Ok(incoming) = decode_body(&parcel.bytes) {
                let from = parcel.from;
                self.input(Input::Datagram { from, incoming }, around);
            }
        }
    }

    fn mail(&mut self, around: &mut Around<'_>) {
        while let Some((_, outcomes)) = self.thread.told.pop_front_if(|(at, _)| *at <= around.now) {
            for outcome in outcomes {
                around.ledger.outcome(around.now, &outcome);
                // Also at the next one: what has ended by then is not written again.
                let is_empty = match outcome {
                    Outcome::Available { lost_data, .. } => lost_data || around.ledger.has_holes(),
                    _ => false,
                };
                self.input(Input::Outcome(outcome), around);
                if is_empty {
                    let (cursor, limit) = (0, 1_000);
                    let ask = Request::Tasks { cursor, limit };
                    let requester = u64::MAX;
                    self.input(
                        Input::Request {
                            requester,
                            request: ask,
                        },
                        around,
                    );
                }
            }
        }
    }

    /// Passes a request to the core.
    pub fn ask(&mut self, requester: u64, ask: Request, around: &mut Around<'_>) {
        self.input(
            Input::Request {
                requester,
                request: ask,
            },
            around,
        );
        self.is_ready = true;
    }

    fn send(&mut self, around: &mut Around<'_>) -> bool {
        let at = self.moment(around.now);
        match around.has_rollouts {
            true => self.go_on_in_steps(around),
            false => while self.core.go_on(at, HOSTS_PER_STEP_MAX, &mut self.fx) {},
        }
        let mut datagrams = Vec::new();
        let more = self
            .core
            .take_sends(at, SENDS_PER_TURN_MAX, &mut datagrams, &mut self.fx);
        self.apply(around);
        for Datagram { to, text } in datagrams {
            around.ledger.sends(to, text.into());
        }
        more || self.core.has_jobs()
    }

    /// Some steps of work on many hosts. Each is preceded by a look at the tasks.
    fn go_on_in_steps(&mut self, around: &mut Around<'_>) {
        let at = self.moment(around.now);
        while self.core.has_jobs() {
            self.look_at_tasks(around);
            let most = match around.is_busy {
                true => 1 + around.dice.place(4),
                false => HOSTS_PER_STEP_MAX,
            };
            self.core.go_on(at, most, &mut self.fx);
            self.apply(around);
            if around.is_busy && around.dice.one_in(5) {
                return;
            }
        }
    }

    /// Shows the tasks to the ledger.
    fn look_at_tasks(&mut self, around: &mut Around<'_>) {
        let mut fx = Effects::default();
        let request = Request::Tasks {
            cursor: 0,
            limit: 1_000,
        };
        let input = Input::Request {
            requester: u64::MAX,
            request,
        };
        let flow = self.core.handle(self.moment(around.now), input, &mut fx);
        assert_eq!(flow, Flow::Taken);
        for effect in fx.list {
            if let Effect::Respond {
                answer: Response::Tasks { tasks, .. },
                ..
            } = effect
            {
                around.ledger.rollouts.listed(&tasks, around.now);
            }
        }
    }

    /// Stops as a server does that is asked to: nothing is read any more, what is outstanding is
    /// written, and the lease is given up.
    pub fn stop(&mut self, around: &mut Around<'_>, store: &Shared) {
        let at = self.moment(around.now);
        self.core.shutdown(at, false, &mut self.fx);
        self.apply(around);
        for _ in 0..200 {
            self.hand_over(around);
            if self.is_drained() {
                break;
            }
            self.turn_thread(around.now, store);
            self.take_last(around);
        }
        self.thread.worker.end(Span::from_secs(2));
        while let Some(batch) = self.thread.channel.pop_front() {
            self.thread.worker.take(batch);
        }
        self.thread.worker.channel_is_empty();
        for _ in 0..200 {
            self.turn_thread(around.now, store);
            if self.thread.next == Next::Over {
                break;
            }
        }
        self.take_last(around);
    }

    fn take_last(&mut self, around: &mut Around<'_>) {
        for (_, outcomes) in std::mem::take(&mut self.thread.told) {
            for outcome in outcomes {
                around.ledger.outcome(around.now, &outcome);
                self.input(Input::Outcome(outcome), around);
            }
        }
    }

    fn hand_over(&mut self, around: &mut Around<'_>) {
        while self.thread.channel.len() < BATCHES_WAITING_MAX && self.core.has_work() {
            let most = match around.dice.one_in(3) {
                true => 1 + around.dice.place(8),
                false => BATCH_OPS_MAX,
            };
            let Some(batch) = self.core.pull(self.moment(around.now), most) else {
                break;
            };
            for op in &batch.ops {
                if let Op::Dispatch(op) = op {
                    around.ledger.rollouts.stored(op.key.as_str(), &op.hosts);
                }
            }
            self.thread.channel.push_back(batch);
        }
    }

    fn flush(&mut self, around: &mut Around<'_>) {
        for socket in self.sockets.values_mut().filter(|s| !s.out.is_empty()) {
            let bytes = Chunk::Bytes(std::mem::take(&mut socket.out));
            let (network, dice) = (&mut *around.network, &mut *around.dice);
            network.send_down(socket.link, bytes, around.now, dice);
        }
    }

    /// Does what the core wants done, in order.
    fn apply(&mut self, around: &mut Around<'_>) {
        let mut resumed = Vec::new();
        for effect in std::mem::take(&mut self.fx.list) {
            around.ledger.effect(around.now, &effect);
            match effect {
                Effect::Reply { conn, reply } => {
                    if let Some(socket) = self.sockets.get_mut(&conn) {
                        emit(&reply, socket.order, &mut socket.out);
                    }
                }
                Effect::Push { conn, push } => {
                    if let Some(socket) = self.sockets.get_mut(&conn) {
                        emit_push(&push, socket.order, &mut socket.out).expect("it fits");
                    }
                }
                Effect::Close { conn } => self.forget(conn, around),
                Effect::Resume { conn } => resumed.push(conn),
                // No host here has a key.
                Effect::Tell(_)
                | Effect::Respond { .. }
                | Effect::Narrow { .. }
                | Effect::Guard { .. } => {}
                Effect::Log(note) => around
                    .ledger
                    .log(format_args!("{} {} {}", note.what, note.who, note.text)),
                Effect::Stop { why, .. } => panic!("the server ends: {why}"),
            }
        }
        for conn in resumed {
            if let Some(socket) = self.sockets.get_mut(&conn) {
                (socket.waits, socket.readable) = (false, around.now);
                self.has_resumed = true;
                self.digest(conn, around);
            }
        }
    }

    /// The server's end of a connection is closed.
    fn forget(&mut self, conn: ConnId, around: &mut Around<'_>) {
        let Some(socket) = self.sockets.remove(&conn) else {
            return;
        };
        self.free.push(conn.slot);
        let (network, dice) = (&mut *around.network, &mut *around.dice);
        if !socket.out.is_empty() {
            network.send_down(socket.link, Chunk::Bytes(socket.out), around.now, dice);
        }
        network.send_down(socket.link, Chunk::Fin, around.now, dice);
        if let Some(link) = network.links.get_mut(&socket.link) {
            link.server = ServerEnd::Gone;
            link.up.chunks.clear();
        }
    }
}

fn shuffle<T>(list: &mut [T], dice: &mut Dice) {
    for place in (1..list.len()).rev() {
        list.swap(place, dice.place(place + 1));
    }
}
