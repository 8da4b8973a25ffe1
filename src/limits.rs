//! Every bound of the program, named with its unit, and what happens when it is reached. Checks
//! between them run when the program is compiled.

/// A frame's body, in bytes. More is refused from its header alone.
pub const FRAME_BYTES_MAX: usize = 65_535;
/// A frame's header, in bytes.
pub const FRAME_HEADER_BYTES: usize = 4;
/// Nesting depth of a body. Deeper is abnormal data.
pub const NESTING_DEPTH_MAX: usize = 32;
/// A `seq` a client may give: the integers every JSON reader holds exactly.
pub const SEQ_MAX: u64 = (1 << 53) - 1;
/// Acknowledgements owed to one host for reports of itself; the oldest is refused for one more.
pub const INVENTORY_ASKS_MAX: usize = 4;
/// A host's id, in bytes.
pub const HOST_ID_BYTES_MAX: usize = 64;
/// A task's key, in bytes.
pub const TASK_KEY_BYTES_MAX: usize = 64;
/// Places of a slash body that are tried as the beginning of its two lists.
pub const SLASH_SPLITS_MAX: usize = 16;
/// Bytes that failed attempts may read; after that no other is tried.
pub const SLASH_TRIED_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// Length of a received text quoted in an error, in characters; the rest is cut off.
pub const EXCERPT_CHARS_MAX: usize = 32;
/// The reason in a `keepRefused`, in characters; the rest is cut off.
pub const REFUSAL_CHARS_MAX: usize = 512;

/// A task's commands as recorded for one host where there is no book to say how many there are.
pub const COMPLETE_COMMANDS_MAX: usize = 4_096;
/// Tasks one host may be at work on; the one heard of longest ago makes room.
pub const TASKS_AT_WORK_MAX: usize = 16;
/// Sleep of an old client after its last command, with a second to spare, in seconds: it reads no datagram before, and is
/// sent nothing again.
pub const REST_S: u64 = 6;
/// Heartbeats of a plain host without a report among them that show that no command holds its send lock, at least.
pub const BEATS_OF_THE_IDLE_MIN: u32 = 4;
/// Time from the first to the last of those, in seconds, at least.
pub const BEATS_OF_THE_IDLE_S: u64 = 30;
/// Timeouts that a plain host held over a restart has to come back if it is in the middle of a task.
pub const TIMEOUTS_OF_THE_BUSY: u64 = 10;
/// Text in a host's report of itself, in bytes; more is refused.
pub const INVENTORY_BYTES_MAX: usize = 8_192;

/// Bytes read from one connection in a turn; the rest waits for the next, behind everyone else.
pub const READ_BYTES_PER_TURN_MAX: usize = 256 * 1024;
/// Bytes asked of a socket in one call: the size of the one buffer all connections read into.
pub const READ_BUFFER_BYTES: usize = 64 * 1024 + 4096;
/// Frames handled for one connection in a turn. With TLS, also its records: a record counts whether or not it holds
/// data.
pub const FRAMES_PER_TURN_MAX: usize = 256;
/// Bytes read from all connections in a turn, and frames handled for them: shared among the ready
/// connections, as long as each gets at least the two below.
pub const READ_BYTES_PER_TURN_ALL: usize = 4 * 1024 * 1024;
/// See [`READ_BYTES_PER_TURN_ALL`].
pub const FRAMES_PER_TURN_ALL: usize = 4_096;
/// Bytes each may have read in a turn, however many there are.
pub const READ_BYTES_PER_TURN_MIN: usize = 16 * 1024;
/// Frames each may have handled likewise.
pub const FRAMES_PER_TURN_MIN: usize = 16;
/// Time of a turn for each of: connections at the end of their budget, newcomers, accepting, and
/// outcomes of the store, in microseconds. The heartbeat of another host waits for no more of them.
pub const TURN_SLICE_US: u64 = 300;
/// The same for hosts that answer a task while it is still being sent to others, in microseconds.
/// Hosts that have not been sent the task come first: an answer takes time of the loop and of the
/// store thread.
pub const TURN_SLICE_SENDING_US: u64 = TURN_SLICE_US / 3;
/// Number of each that are served in a turn however long it takes.
pub const TURN_SLICE_FEW: u32 = 4;
/// Connections accepted in a turn.
pub const ACCEPTS_PER_TURN_MAX: usize = 256;
/// Readiness taken from the kernel in one wait.
pub const EVENTS_PER_TURN_MAX: usize = 1_024;
/// Datagrams received in a turn.
pub const DATAGRAMS_PER_TURN_MAX: usize = 256;
/// A datagram from a host, in bytes; a longer one is dropped.
pub const DATAGRAM_IN_BYTES_MAX: usize = 2_048;
/// A signed datagram to a host, in bytes; what does not fit is refused.
pub const DATAGRAM_SIGNED_BYTES_MAX: usize = 2_048;
/// Numbers of signed datagrams that are taken: the highest, and so many less one below it.
pub const DATAGRAM_WINDOW: u64 = 64;
/// A frame of a connection that has still to prove itself, in bytes: abnormal beyond. With it such a
/// connection holds one challenge, so that their memory is bounded by the number of connections.
pub const UNPROVEN_FRAME_BYTES_MAX: usize = 512;
/// Digits of a nonce.
pub const NONCE_DIGITS: usize = 32;
/// A file of keys, in bytes: refused beyond.
pub const KEYS_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Descriptors kept from the connections: HTTP, the store, the log, the reserve of `accept`.
pub const DESCRIPTORS_RESERVED: usize = 128;
/// Replies waiting for a peer that does not read, in bytes. Above this nothing more is read from
/// it until it has taken some, so its silence ends it in time.
pub const UNREAD_REPLY_BYTES_MAX: usize = 64 * 1024;

/// Kernel send buffer of one connection, in bytes; the kernel takes twice as much to account for
/// itself. Without it a peer that never reads would take megabytes.
pub const KERNEL_SEND_BYTES: usize = 64 * 1024;
/// The same of what a peer has sent and we have not read, as when its reports wait: then the peer has to
/// wait as well.
pub const KERNEL_RECEIVE_BYTES: usize = 256 * 1024;

/// Connections at once where the system names no limit of descriptors.
pub const CONNECTIONS_MAX: usize = 1 << 20;
/// Of the room for connections, one network (an IPv4 address or an IPv6 /64) may fill one part in so many with
/// connections that have not proved themselves: by a first message, or by a key where keys are demanded. Beyond, the oldest of
/// them is closed for each further one.
pub const UNPROVEN_PARTS: usize = 4;
/// Unproven connections that one network may have in any case.
pub const UNPROVEN_MIN: usize = 64;
/// Connections that have not proved themselves looked at to find the one that makes room.
pub const NEWCOMERS_LOOKED_AT_MAX: usize = 64;
/// Connections the kernel may hold for us before they are accepted; it caps this itself.
pub const BACKLOG_MAX: i32 = 4_096;
/// Pause of accepting after the system had no descriptor or memory for it, in milliseconds.
pub const ACCEPT_RETRY_MS: u64 = 100;
/// Closed connections kept for a moment, so that their peers can read the last reply. One more
/// takes the place of the oldest.
pub const LINGERING_MAX: usize = 32;
/// Lifetime of one of those, in milliseconds.
pub const LINGER_MS: u64 = 1_000;
/// Buffers kept for the next connection that needs one; more are given back to the system.
pub const BUFFERS_KEPT_MAX: usize = 1_024;
/// A buffer above this size is never kept, in bytes.
pub const BUFFER_KEPT_BYTES_MAX: usize = 4 * 1024;
/// Connections accepted, buffers lent and operations sent, all together, after which their memory
/// is returned to the system, once it is calm.
pub const STORM_WORK_MIN: u64 = 4_096;
/// Number of them a second that counts as calm.
pub const CALM_WORK_PER_S_MAX: u64 = 256;
/// Longest delay of the horizon by a busy loop, in milliseconds of turning.
pub const HORIZON_LAG_MS_MAX: u64 = 5_000;
/// Share of one turn in that, at most, in milliseconds: a stopped process was not turning.
pub const TURN_COUNTED_MS_MAX: u64 = 100;
/// Requests of handles served in a turn: each may look at [`PAGE_SCAN_MAX`] hosts.
pub const REQUESTS_PER_TURN_MAX: usize = 16;
/// Longest wait of the ready line for the store's first answer, in milliseconds.
pub const READY_WAIT_MS_MAX: u64 = 1_500;
/// Seconds a handle waits for the loop's answer.
pub const HANDLE_WAIT_S_MAX: u64 = 10;
/// Handles that wait for the core's answer; one more is refused for now.
pub const ASKERS_MAX: usize = 1_024;
/// Seconds a handle waits for that answer: as long as a dispatch may take, and the loop besides.
pub const ASKER_S_MAX: u64 = DISPATCH_WAIT_S_MAX + HANDLE_WAIT_S_MAX;
/// Subscribers to the events at once; a further one receives nothing.
pub const SUBSCRIBERS_MAX: usize = 64;
/// Seconds that the loop goes on at the end, so that the store can settle outstanding operations.
pub const SHUTDOWN_S_MAX: u64 = 5;
/// Seconds the store thread is then given to put down the rest.
pub const STORE_STOP_S_MAX: u64 = 5;
const _: () = assert!(
    HTTP_CONNECTIONS_MAX + HTTP_SPARE_MAX + LINGERING_MAX + 16 <= DESCRIPTORS_RESERVED,
    "what is not a host's connection fits into the reserve"
);

/// Reports accepted and not yet settled by the store. When full, connections that report are not
/// read until there is room.
pub const REPORTS_WAITING_MAX: usize = 8_192;
/// The same in bytes of text.
pub const REPORT_BYTES_WAITING_MAX: usize = 16 * 1024 * 1024;
/// Operations handed to the store thread as one batch.
pub const BATCH_OPS_MAX: usize = 2_048;
/// Comings and goings with the store at most; the rest waits as a few bytes each. The store thread runs one half of
/// them while the loop makes the other.
pub const PRESENCE_IN_FLIGHT_MAX: usize = 2 * STORE_RUN_OPS_MAX;
/// Interval between two batches of presence changes and last-seen times, in milliseconds. Many are
/// then one batch and one wake-up.
pub const GATHER_STATE_MS: u64 = 5;
/// Batches in the channel to the store thread. When full, presence stays in the table of hosts
/// (the latest wins), reports stay counted above.
pub const BATCHES_WAITING_MAX: usize = 8;
/// Batches of outcomes in the channel back. The store thread waits when it is full; the loop never.
pub const OUTCOMES_WAITING_MAX: usize = 64;
/// Hosts in one batch of last-seen times, or of one audit of the set.
pub const HOSTS_PER_OP_MAX: usize = 1_024;
/// Batches of last-seen times with the store; the next goes when one is settled, so that a large fleet's are never
/// all in memory at once.
pub const SEEN_IN_FLIGHT_MAX: usize = 4;
/// Presence changes of one host kept in order while one of its own is being written; beyond, an
/// online and the offline that follows it cancel out.
pub const TRANSITIONS_WAITING_MAX: usize = 16;
/// Hosts kept in the table, offline ones included. When full, the host offline for longest is
/// forgotten (the store keeps it); when all are online, a new one is refused.
pub const HOSTS_MAX: usize = 1 << 21;
/// New ids that one address (of IPv6, one /64) may bring within a minute; one more is refused until the next.
pub const NEW_IDS_PER_NETWORK_MAX: u32 = 32_768;
/// Networks whose new ids are counted; those of further ones within the same minute are not.
pub const NEW_NETWORKS_MAX: usize = 65_536;
/// Hosts that have never stayed online for a timeout and are told of one by one; beyond, they are one event `new-ids` with
/// their number. So many are then told again each second ([`NEW_IDS_TOLD_PER_S`]).
pub const NEW_IDS_TOLD_MAX: u64 = 32_768;
/// Hosts by which that budget grows each second.
pub const NEW_IDS_TOLD_PER_S: u64 = 1;
/// Hosts kept that are offline and have never stayed online for a timeout. The oldest of one more is forgotten, here and
/// in the store.
pub const BRIEF_HOSTS_MAX: usize = 16_384;
/// Of those, looked at to find one that can be forgotten: of the others something is being written.
pub const BRIEF_LOOKS_MAX: usize = 64;
/// Ids whose replacements are watched; those of the last minute stay when it is full, and then no further one is watched.
pub const FIGHTS_MAX: usize = 16_384;
/// Networks remembered for one of those, each with how long it held the id; the least goes.
pub const TENURES_MAX: usize = 8;
/// The window in which reports on keys that this server never stored are counted, and how long such a key is kept that
/// has no task book, in seconds.
pub const STRAY_WINDOW_S: u64 = 3_600;
/// Such keys of one host within the window. Beyond these bounds a report is refused.
pub const STRAY_HOST_KEYS_MAX: usize = 16_384;
/// Such reports of one host within the window.
pub const STRAY_HOST_REPORTS_MAX: u32 = 65_536;
/// Their texts, in bytes.
pub const STRAY_HOST_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Hosts with such reports within the window.
pub const STRAY_HOSTS_MAX: usize = 16_384;
/// Such reports of all hosts within the window.
pub const STRAY_REPORTS_MAX: u32 = 262_144;
/// Their texts, in bytes.
pub const STRAY_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Events of the fleet itself (mass offline, quarantine) waiting for the store. When full the
/// oldest goes, counted.
pub const NOTICES_WAITING_MAX: usize = 1_024;

/// Replacements of one id within [`QUARANTINE_WINDOW_S`] beyond which the present connection keeps
/// it.
pub const REPLACEMENTS_MAX: u32 = 15;
/// The window in which replacements are counted, and how long others are then refused, in seconds.
pub const QUARANTINE_WINDOW_S: u64 = 60;
/// Hosts below which going offline together is not reported.
pub const MASS_OFFLINE_HOSTS_MIN: usize = 20;

/// A PEM file, in bytes: a longer one is refused.
pub const PEM_FILE_BYTES_MAX: u64 = 1 << 20;
/// Steps of TLS handshakes in a turn: the others wait for the next, so that a storm of them does
/// not stop heartbeats. One costs up to half a millisecond.
pub const TLS_HANDSHAKES_PER_TURN_MAX: usize = 8;
/// Certificates of connected peers checked again in a turn, when they expire or the authorities have changed; the rest
/// waits for the next. One costs up to half a millisecond.
pub const TLS_CHECKS_PER_TURN_MAX: usize = 8;
/// Slots of connections looked at in a turn for one that has to be checked.
pub const TLS_SLOTS_PER_TURN_MAX: usize = 4_096;
/// Seconds between two looks at the wall clock for certificates that expire: it may have been set.
pub const TLS_EXPIRY_LOOK_S: u64 = 60;
/// Bytes of handshakes under way, for all connections together. Beyond, a handshake longer than
/// [`TLS_HANDSHAKE_SPARED_BYTES`] is refused.
pub const TLS_HANDSHAKES_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes that each handshake may have however many there are: more than one with two usual certificates takes. Their number is
/// bounded by that of connections.
pub const TLS_HANDSHAKE_SPARED_BYTES: usize = 4 * 1024;
/// Outgoing bytes that TLS holds of one connection; further bytes stay in the queue of replies.
pub const TLS_BUFFER_BYTES_MAX: usize = 4096;

/// A request's head over HTTP, in bytes: 431 beyond.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;
/// A request's body over HTTP, in bytes: 413 beyond.
pub const HTTP_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A whole request over HTTP, in seconds, and how long a kept connection may idle.
pub const HTTP_REQUEST_S_MAX: u64 = 10;
/// Seconds without progress after which a connection may be closed for another where there is no room: its
/// request does not go on, or its peer does not read.
pub const HTTP_STALLED_S: u64 = 1;
/// Bytes of a request or of an answer within [`HTTP_STALLED_S`] that count as progress.
pub const HTTP_PROGRESS_BYTES: usize = 64 * 1024;
/// HTTP connections at once; one more takes the place of the one idle for longest, else of one whose token was
/// wrong, else of one that has stalled, else one of [`HTTP_SPARE_MAX`].
pub const HTTP_CONNECTIONS_MAX: usize = 64;
const _: () = assert!(HTTP_STALLED_S < HTTP_REQUEST_S_MAX && HTTP_STALLED_S < HTTP_ANSWER_S_MAX);
/// Header lines in one request over HTTP: 431 beyond.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Time for a peer to read a response over HTTP, in seconds; then it is dropped.
pub const HTTP_ANSWER_S_MAX: u64 = 10;
/// Time for which a closed HTTP connection is still read, in seconds, so that bytes which the peer
/// was sending do not destroy the response on its way.
pub const HTTP_LINGER_S_MAX: u64 = 2;
/// HTTP connections beyond [`HTTP_CONNECTIONS_MAX`], so that probes and short questions are answered while all
/// places are taken. Each has one request answered; one more takes the place of the oldest, however it stands.
pub const HTTP_SPARE_MAX: usize = 16;
/// Those of them that may wait for the core: 503 beyond.
pub const HTTP_SPARE_ASKS_MAX: usize = HTTP_SPARE_MAX / 2;
/// Delay of the response to a wrong token, in milliseconds. Meanwhile nothing more is read from its
/// connection, which makes room for others before any that has a request in progress.
pub const HTTP_TOKEN_DELAY_MS: u64 = 1_000;
/// Bytes asked of an HTTP socket in one call.
pub const HTTP_READ_BYTES: usize = 16 * 1024;
/// Requests over HTTP answered in a turn, one for each connection at most, and as long as [`TURN_SLICE_US`] is not
/// over; the rest waits for the next turn. A connection of which [`HTTP_READ_BYTES`] or more are read counts as well,
/// answered or not.
pub const HTTP_ANSWERS_PER_TURN_MAX: usize = 8;
/// HTTP connections accepted in a turn.
pub const HTTP_ACCEPTS_PER_TURN_MAX: usize = 16;
/// Milliseconds until `accept` is tried again after it failed for want of descriptors or memory.
pub const HTTP_ACCEPT_RETRY_MS: u64 = 100;
/// Seconds an asker over HTTP waits for the core's answer: as long as a dispatch may take, and the
/// loop besides; then 503.
pub const HTTP_ASK_S_MAX: u64 = DISPATCH_WAIT_S_MAX + 5;
/// HTTP connections that follow the events; one more takes the place of one that has stalled, else 503.
pub const HTTP_FOLLOWERS_MAX: usize = 16;
/// Text of events waiting for one follower, in bytes; a slower one is dropped.
pub const HTTP_FOLLOWER_BYTES_MAX: usize = 1024 * 1024;
/// So much of it is handed to the kernel at once, in the middle of a turn, in bytes.
pub const HTTP_FOLLOWER_FLUSH_BYTES: usize = 64 * 1024;
/// Seconds between two comments that keep such a connection alive.
pub const HTTP_FOLLOWER_COMMENT_S: u64 = 15;
/// Hosts on one page.
pub const PAGE_HOSTS_MAX: usize = 1_000;
/// Entries of the table looked at for one page: a page may so come short, with a cursor to go on.
pub const PAGE_SCAN_MAX: usize = 20_000;

/// One answer the command line takes from a server, in bytes; a longer one is an error.
pub const API_ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A token in a file, in bytes; a longer one is refused.
pub const API_TOKEN_BYTES_MAX: u64 = 4_096;
/// Pages that the command line requests in a row. A server that has more than every host of a full
/// table is not Anthill: an error.
pub const API_PAGES_MAX: usize = 3 * HOSTS_MAX / PAGE_HOSTS_MAX;
/// Hosts of a task the command line asks for at a time: each may bring the beginning of an output for
/// every command, and all of them must fit one answer.
pub const API_TASK_HOSTS: usize = 100;
/// Pages of those asked for in a row: likewise an error beyond.
pub const API_TASK_PAGES_MAX: usize = DELIVERIES_MAX / API_TASK_HOSTS + 1;
/// A file of commands for a dispatch, in bytes; a longer one is refused. Far more than a book may hold.
pub const TASKS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// A line given to the console by a script, in bytes; a longer one is refused.
pub const CONSOLE_LINE_BYTES_MAX: usize = 64 * 1024;
/// Lines the console remembers from one time to the next.
pub const CONSOLE_HISTORY_LINES_MAX: usize = 1_000;
/// Bytes of one event that `anthill events` reads; the stream is ended at a longer line.
pub const API_EVENT_BYTES_MAX: u64 = 1024 * 1024;
/// Events kept for clients that ask later; the oldest goes.
pub const EVENTS_RECENT_MAX: usize = 1_024;
/// Bytes of a target; a longer one is refused.
pub const TARGET_BYTES_MAX: usize = 1024 * 1024;
/// Spans of numbers in one range of a target; more are refused.
pub const TARGET_SPANS_MAX: usize = 65_536;
/// Pages of hosts the console looks through to complete a name.
pub const CONSOLE_COMPLETION_PAGES_MAX: usize = 10;

/// Tasks in memory. When full, the oldest finished one is evicted (the store still has it); if
/// there is none a dispatch is refused for now.
pub const TASKS_MAX: usize = 16_384;
/// Of the tasks, deliveries and bytes of books that the core holds, so many quarters may belong to tasks that wait for hosts
/// that are offline. Beyond, a dispatch that would wait is refused for now: one that goes out at once always has the rest.
pub const QUEUED_QUARTERS_MAX: usize = 3;
/// Hosts of all those tasks together. When full likewise.
pub const DELIVERIES_MAX: usize = 1 << 21;
/// A task book: its commands as ASCII-escaped JSON and the longest of them once more, in bytes.
pub const BOOK_BYTES_MAX: usize = 60_000;
/// Text of all books the core holds, in bytes. When full likewise.
pub const BOOKS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A datagram to a host, in bytes: old clients read no more.
pub const DATAGRAM_BYTES_MAX: usize = 1_024;
/// Tasks with the store that are written again because it has lost them; the next follows when one is settled.
pub const RESTORES_IN_FLIGHT_MAX: usize = 8;
/// Datagrams and pushes sent in a turn.
pub const SENDS_PER_TURN_MAX: usize = 1_024;
/// Dispatches under way with the store; more are refused for now.
pub const DISPATCHES_WAITING_MAX: usize = 64;
/// Hosts of one request that are handled at a time: the rest of a request with more follows in later turns, as many at a
/// time, for [`TURN_SLICE_US`] of each turn.
pub const HOSTS_PER_STEP_MAX: usize = 256;
/// A body over HTTP whose names of hosts are read all at once, in bytes; those of a longer one are read
/// [`HOSTS_SHOWN_PER_STEP_MAX`] at a time.
pub const BODY_BYTES_AT_ONCE_MAX: usize = 32 * 1024;
/// Hosts of one answer that are put into its body at a time; those of a longer answer follow in later turns.
pub const HOSTS_SHOWN_PER_STEP_MAX: usize = 1_024;
/// Seconds an asker waits for the store to say what became of a dispatch.
pub const DISPATCH_WAIT_S_MAX: u64 = 10;
/// Questions to the store under way; more are refused for now.
pub const READS_WAITING_MAX: usize = 256;
/// Bytes that the results which arrive may come to, for all connections together. Beyond, those connections wait.
pub const RESULT_BYTES_HELD_MAX: usize = 64 * 1024 * 1024;
/// The share of one address (an IPv6 network of 64 bits), in bytes. Beyond, its connections wait.
pub const RESULT_BYTES_ADDRESS_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a result that count as progress.
pub const RESULT_PROGRESS_BYTES: usize = 64 * 1024;
/// Seconds without such progress after which a result is refused, if connections wait for room.
pub const RESULT_STALLED_S: u64 = 2;
/// Milliseconds between two looks for such results, while connections wait.
pub const RESULT_LOOK_MS: u64 = 500;
/// Bytes of a result that count as a message.
pub const RESULT_BYTES_A_MESSAGE: u64 = 16 * 1024;
/// Seconds a result may wait for room before it is refused.
pub const RESULT_WAIT_S_MAX: u64 = 60;
/// Of each output so much is shown with the task, in bytes; all of it can be asked for by itself.
pub const OUTPUT_SHOWN_BYTES_MAX: usize = 4_096;
/// Hosts on one page of a task.
pub const PAGE_TASK_HOSTS_MAX: usize = 1_000;
/// Tasks on one page.
pub const PAGE_TASKS_MAX: usize = 1_000;
/// Console commands remembered. The oldest goes for one more.
pub const COMMANDS_MAX: usize = 1_024;

/// Hosts of all remembered console commands together. The oldest go; one to more hosts than this is refused.
pub const COMMAND_HOSTS_MAX: usize = 1 << 20;
/// Hosts that report on tasks before the store has been reached for the first time, and so before it has
/// told which there are, one entry a task. What more come with is in the store, but their states here lag.
pub const EARLY_REPORTS_MAX: usize = 65_536;

/// Requests from handles waiting for the loop; a handle waits when it is full.
pub const REQUESTS_WAITING_MAX: usize = 1_024;
/// Events waiting for one subscriber; further ones are dropped for it, and it sees their number.
pub const EVENTS_WAITING_MAX: usize = 4_096;
/// Log lines waiting for the log thread; the rest is dropped, counted and said so.
pub const LOG_LINES_WAITING_MAX: usize = 8_192;

/// The event stream is trimmed to about so many entries.
pub const STREAM_ENTRIES_MAX: usize = 100_000;
/// The node's lease, in seconds, and how often it is renewed.
pub const LEASE_S: u64 = 15;
/// Seconds between two renewals of the lease.
pub const LEASE_RENEW_S: u64 = 5;
/// Seconds for which a lease found at the start must not be renewed before it counts as dead.
pub const LEASE_WATCH_S: u64 = 6;
/// Seconds between two looks at whether our hosts are all in the set of those online.
pub const AUDIT_S: u64 = 10;

/// AK devices in the configuration: refused beyond.
pub const AK_DEVICES_MAX: usize = 1_024;
/// Commands of one device, and fields of one command: refused beyond.
pub const AK_COMMANDS_MAX: usize = 32;
/// A reply of a device, in bytes from behind STX to before ETX. A longer one is abnormal: the connection is closed.
pub const AK_REPLY_BYTES_MAX: usize = 8_192;
/// Of each value so much is shown where all devices are, in bytes; all of it is shown with its device.
pub const AK_DATA_SHOWN_BYTES_MAX: usize = 256;
/// Bytes that belong to no reply, between two replies. More is abnormal likewise.
pub const AK_NOISE_BYTES_MAX: usize = 16_384;
/// Milliseconds before a device is connected to again; doubled with each time in vain.
pub const AK_RETRY_MS_MIN: u64 = 1_000;
/// Milliseconds between two attempts to connect to a device, at most.
pub const AK_RETRY_MS_MAX: u64 = 5_000;
/// Milliseconds a connection to a device may take at least to come about, however short its `timeout_ms`:
/// the kernel asks a second time after one second.
pub const AK_CONNECT_MS_MIN: u64 = 1_500;
/// The same at most, however long its `timeout_ms`: one that is switched off says nothing, and others wait for its place.
pub const AK_CONNECT_MS_MAX: u64 = 5_000;
/// Milliseconds that a device just connected is listened to before it is asked: a converter in front of it may still hold the
/// late answer to a question of the connection before, which is not to be taken for that to the first of this one.
pub const AK_LISTEN_MS: u64 = 50;
/// Milliseconds that the loop may be late for devices; when it is later it stood still, and that time makes no data stale.
pub const AK_STANDSTILL_MS: u64 = 500;
/// Devices being connected to at once; the others wait for their turn. Half of all there may be: were all of them switched
/// off, each would be tried as long as it rests.
pub const AK_CONNECTING_MAX: usize = 512;
/// Milliseconds between two connects to devices: many are not to be asked in step, each of their rounds a heap of questions
/// that hosts wait for.
pub const AK_DIAL_EVERY_MS: u64 = 1;
/// Targets of `reach` in the configuration: refused beyond.
pub const REACH_TARGETS_MAX: usize = 1_024;
/// A target as it is written, in bytes: refused beyond.
pub const REACH_TARGET_BYTES_MAX: usize = 128;
/// Targets being tried at once; the others wait for their turn.
pub const REACH_PROBES_MAX: usize = 512;
/// Milliseconds a target has to answer, or its period if that is shorter.
pub const REACH_WAIT_MS_MAX: u64 = 3_000;
/// Connections begun from here in a turn, to devices and to targets each; the rest waits for the next.
pub const DIALS_PER_TURN_MAX: usize = 32;
/// Devices, and sockets of devices and targets, looked at in a turn; the others wait for the next: a host whose
/// heartbeat comes meanwhile waits for so many at most.
pub const DEVICES_PER_TURN_MAX: usize = 8;
/// Bytes read from one of those in a turn; the rest waits for the next.
pub const DIALED_BYTES_PER_TURN_MAX: usize = 16 * 1024;
/// Milliseconds between two writings of what devices and targets are: what changes meanwhile is written once.
pub const OUTSIDE_WRITE_MS: u64 = 200;
/// Seconds after the store has come up at which all of it is written once more.
pub const OUTSIDE_AGAIN_S: u64 = 5;
/// Seconds after which what has not changed of a device is written all the same, with what has.
pub const OUTSIDE_ALL_S: u64 = 10;
/// Devices, and targets, written in one batch: hosts wait for it to be made.
pub const OUTSIDE_OPS_MAX: usize = 32;
/// Milliseconds between two of these batches at least: many that change often are written less often, and the
/// store thread leaves the rest of its core to the hosts.
pub const OUTSIDE_PACE_MS: u64 = 50;

/// Memory the embedded store may use to keep parts of its file, in bytes.
pub const EMBEDDED_CACHE_BYTES: usize = 16 * 1024 * 1024;
/// An embedded store's file without its mark that is not larger was being made when its process
/// ended, and is made anew, in bytes; a larger one is left alone and refused.
pub const EMBEDDED_NEW_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Keys, and last-seen times, looked at by one sweep of the embedded store; the next goes on there.
pub const SWEEP_ROWS_MAX: usize = 65_536;
/// Commands sent to Redis before their replies are read.
pub const REDIS_WINDOW_COMMANDS_MAX: usize = 1_000;
/// The same in bytes; a single command that is longer goes alone.
pub const REDIS_WINDOW_BYTES_MAX: usize = 256 * 1024;
/// Reads of a TLS connection to Redis for the next bytes of data, since a record of TLS need not hold any. A connection
/// that brings none in so many is given up, and the store is away.
pub const REDIS_TLS_READS_MAX: usize = 256;
/// Messages of Redis that answer no command (pushes), between two replies. Beyond, the connection is given up
/// likewise.
pub const REDIS_PUSHES_MAX: usize = 1_000;
/// Hosts' keys in one command to Redis, which serves no other client meanwhile.
pub const REDIS_KEYS_MAX: usize = 64;
/// Members of a set named in one command to Redis.
pub const REDIS_MEMBERS_MAX: usize = 1_000;
/// Reports whose write was interrupted and whose event must still be raised when they are repeated.
/// Beyond this number events may be lost (the state is written all the same).
pub const EVENTS_OWED_MAX: usize = 4 * BATCH_OPS_MAX;
/// The configuration file, in bytes: refused beyond.
pub const CONFIG_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The token's file, in bytes: refused beyond.
pub const TOKEN_FILE_BYTES_MAX: u64 = 4_096;
/// Entries of one list or map of the configuration: refused beyond.
pub const CONFIG_ENTRIES_MAX: usize = 64;
/// A log line's message, in bytes; the rest of it is cut off.
pub const LOG_MESSAGE_BYTES_MAX: usize = 4_096;
/// Bytes of a message of a peer that a trace line shows; the rest is cut off.
pub const LOG_TRACE_BYTES_MAX: usize = 512;
/// Fields of a log line; the rest is left out.
pub const LOG_FIELDS_MAX: usize = 8;
/// Lines alike (one target, one host) written within [`LOG_WINDOW_S`]; the rest is counted.
pub const LOG_LINES_ALIKE_MAX: u32 = 20;
/// The window in which lines alike are counted, in seconds.
pub const LOG_WINDOW_S: u64 = 10;
/// Pairs of target and host counted within a window; all further ones of a target count as one.
pub const LOG_PAIRS_MAX: usize = 8_192;
/// Bytes of log lines gathered before they are written, about.
pub const LOG_BATCH_BYTES: usize = 256 * 1024;
/// Of the memory for those so much is kept from one batch to the next, in bytes.
pub const LOG_KEPT_BYTES: usize = 16 * 1024;
/// Seconds the program waits at its end, or for a flush, for a log that cannot be written.
pub const LOG_FLUSH_S_MAX: u64 = 5;
/// Operations in the hands of the store thread at most. It takes no batch for which that leaves no room.
pub const STORE_HANDS_OPS_MAX: usize = 4_096;
/// Operations run at once. A few hundred cost as little each as thousands, and their commands and
/// replies take a hundred kilobytes instead of megabytes.
pub const STORE_RUN_OPS_MAX: usize = 256;
/// Records of the spool, or recent reports, written again in one batch.
pub const REPLAY_OPS_MAX: usize = 1_024;
/// The same in bytes on disk; a record that is larger goes alone.
pub const REPLAY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Records left in the spool below which it is emptied before anything new is taken, so that
/// a steady flow of new ones cannot keep it from ever becoming empty.
pub const SPOOL_TAIL_RECORDS: u64 = 4 * REPLAY_OPS_MAX as u64;
/// One segment file of the spool, in bytes; one that holds a larger batch may exceed it.
pub const SPOOL_SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// One record of the spool, in bytes. A report that comes to more is refused for good.
pub const SPOOL_RECORD_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Bytes replayed between two notes of how far the replay has come.
pub const SPOOL_MARK_BYTES: usize = 1024 * 1024;
/// Events that one life of a server may tell before their numbers meet those kept for its next life: two
/// years of a thousand a second. Each start while the clock is behind uses up so many of the 2⁵³ there are.
pub const EVENTS_OF_A_LIFE_MAX: u64 = 1 << 36;
/// The file of rejected records, in bytes; then it becomes `rejected.1`, and an older one goes.
pub const REJECTED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Scheduler slice of the loop's thread, in microseconds: the least that the kernel grants.
pub const LOOP_SLICE_US: u64 = 100;
/// By how much the store thread steps back behind the loop: of a processor that both want, about a quarter is left to it.
pub const STORE_NICENESS: i32 = 5;
/// The same of the log thread.
pub const LOG_NICENESS: i32 = 10;
/// Time for which a stored report stays in the replay buffer, in seconds.
pub const RECENT_S: u64 = 10;
/// Reports so kept. When full the oldest is given up.
pub const RECENT_OPS_MAX: usize = 32_768;
/// The same in bytes of text.
pub const RECENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The file that keeps them while the store is away, in bytes; the oldest that would not fit are in memory only.
pub const RECENT_FILE_BYTES_MAX: u64 = 2 * RECENT_BYTES_MAX as u64;
/// Tasks looked at in one go when they are read at the start.
pub const TASKS_PER_LOOK_MAX: usize = 16;
/// Tasks looked at by one sweep; the next goes on there.
pub const SWEEP_TASKS_MAX: usize = 1_024;
/// Hosts whose progress is read from Redis in one go for a question.
pub const READ_HOSTS_PER_STEP_MAX: usize = 16;
/// Outputs in the answer to one question, in bytes of base64. They share it as they come; what has no
/// room is left out, and can be asked for by itself.
pub const READ_OUTPUT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Milliseconds between two attempts to reach a store that is away, at most.
pub const STORE_RETRY_MS_MAX: u64 = 1_000;
/// Milliseconds of idleness after which the store is asked for a sign of life.
pub const STORE_IDLE_MS: u64 = 1_000;
/// Milliseconds between two checks for a closed connection, while confirmed reports are in memory
/// only: for this long, and until they are on disk, the memory has their only copy if the store
/// dies.
pub const STORE_LOOK_MS: u64 = 20;
/// Seconds between two sweeps of what is over in the store.
pub const STORE_SWEEP_S: u64 = 60;
/// Panics of the store thread, each within [`STORE_CARE_S`] of the one before, after which operations are
/// run one by one, and the one that panics again is rejected.
pub const STORE_PANICS_MAX: u32 = 3;
/// Seconds without a panic after which operations are run in batches again.
pub const STORE_CARE_S: u64 = 60;
/// A file of the embedded store up to which it is read whole at the start, to find damage before anything is served, in
/// bytes. Of a larger one damage shows where it is met.
pub const EMBEDDED_CHECK_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Seconds between two looks at the leases of other nodes, at most.
pub const NODE_LOOK_S: u64 = 5;
/// Seconds between two looks beyond which what was seen before them does not count: the store or this node stood still.
pub const NODE_LOOK_GAP_S: u64 = 10;
/// Names of other nodes that are looked at; further ones wait until some of these have gone.
pub const NODES_SEEN_MAX: usize = 1_000;
/// Connections that one operation may break in a row, each time alone, before it is refused (`rejected`).
pub const SUSPECT_BREAKS_MAX: u32 = 3;
/// Operations that are remembered as the possible cause of a broken connection. When full, those that have broken none
/// alone are forgotten first.
pub const SUSPECTS_MAX: usize = 2 * REPLAY_OPS_MAX;
/// Milliseconds between two looks at a lease that is not ours.
pub const LEASE_LOOK_MS: u64 = 500;
/// Milliseconds by which a lease may seem to have grown without having been renewed.
pub const LEASE_GROWTH_MS: u64 = 500;

/// Seconds after which an agent whose disk was full or read-only tries it again. Until then it beats and
/// takes no work.
pub const AGENT_DISK_RETRY_S: u64 = 30;
/// Tasks and commands an agent has taken and not yet begun or ended. A further one is not answered: it
/// comes again.
pub const AGENT_TASKS_WAITING_MAX: usize = 64;
/// Seconds after which a restarted agent no longer runs a console command that an earlier process took
/// and did not begin: its result says so. (A task is begun however old it is, if the server still has it.)
pub const AGENT_COMMAND_RESUME_S_MAX: u64 = 3_600;
/// Reports an agent keeps for the server. When full it takes no further task.
pub const AGENT_REPORTS_WAITING_MAX: usize = 16_384;
/// Output that an agent stores for the server, in bytes. Beyond it, output is dropped, and its
/// result says `truncated`.
pub const AGENT_OUTPUTS_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Of what a command puts out so much is kept, in bytes; the rest is read and dropped.
pub const AGENT_OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Reports sent and not yet acknowledged; further ones wait for their turn.
pub const AGENT_REPORTS_IN_FLIGHT_MAX: usize = 32;
/// The same for their output, in bytes; a single one may exceed it.
pub const AGENT_OUTPUT_BYTES_IN_FLIGHT_MAX: u64 = 1024 * 1024;
/// Connections that may be lost over one result before it is sent without its output.
pub const AGENT_RESULT_LOSSES_MAX: u32 = 3;
/// Answers kept while there is no connection; the oldest makes room, since its key comes again.
pub const AGENT_ANSWERS_WAITING_MAX: usize = 256;
/// Keys an agent remembers having taken; the oldest that has ended is forgotten first. Only their number
/// counts and not their age: a wall clock that steps must not let a book be run again.
pub const AGENT_KEYS_MAX: usize = 100_000;
/// The agent's journal is written anew when it is larger than so many bytes, and twice what is in it.
pub const AGENT_JOURNAL_BYTES_MIN: u64 = 1024 * 1024;
/// The allow file, in bytes: refused beyond.
pub const AGENT_ALLOW_BYTES_MAX: u64 = 1024 * 1024;
/// Entries of the allow file: refused beyond.
pub const AGENT_ALLOW_ENTRIES_MAX: usize = 4_096;
/// Time limit of a command whose entry does not set one, in seconds.
pub const AGENT_RUN_S: u64 = 600;
/// Longest time limit of an entry, in seconds.
pub const AGENT_RUN_S_MAX: u64 = 30 * 86_400;
/// Milliseconds between the two signals that end a command, the second of which it cannot catch.
pub const AGENT_KILL_MS: u64 = 2_000;
/// Milliseconds after which an agent that was asked to end ends, whatever hangs: longer than both signals have
/// to end a command.
pub const AGENT_STOP_MS_MAX: u64 = 10_000;
/// Milliseconds between two looks at the processes of a command under way, at most: they are written down, for
/// the next agent to end if this one is killed.
pub const AGENT_PROCESS_LOOK_MS_MAX: u64 = 3_200;
/// Seconds in which a connection, and then the server's welcome, must come about.
pub const AGENT_CONNECT_S_MAX: u64 = 10;
/// Milliseconds before the first attempt to reconnect; doubled each time.
pub const AGENT_RETRY_MS_MIN: u64 = 1_000;
/// Milliseconds between two attempts to reconnect, at most.
pub const AGENT_RETRY_MS_MAX: u64 = 15_000;
/// Milliseconds before an agent connects again after the server has ended a connection that it had accepted,
/// as when another agent has the same id; doubled each time.
pub const AGENT_EVICTED_MS_MIN: u64 = 5_000;
/// The same, at most.
pub const AGENT_EVICTED_MS_MAX: u64 = 60_000;
/// Seconds after which an accepted connection counts as settled, and the wait begins anew.
pub const AGENT_SETTLED_S: u64 = 300;
/// Intervals without anything from the server after which it is taken for dead.
pub const AGENT_SILENT_INTERVALS: u64 = 3;
/// Seconds between two looks at what the host is: its name and addresses.
pub const AGENT_LOOK_S: u64 = 60;
/// Bytes that an agent's server does not take; beyond, the connection is dropped.
pub const AGENT_UNREAD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes an agent reads from its server in a turn, and datagrams; the rest waits for the next.
pub const AGENT_READ_BYTES_PER_TURN_MAX: usize = 1024 * 1024;

/// Descriptors the bench client keeps from its hosts: its poll, pipes, `/proc`, HTTP.
pub const BENCH_DESCRIPTORS_RESERVED: u64 = 64;
/// Bytes that the server does not take of a host of the load generator; beyond, a heartbeat is not
/// sent and counts as an error.
pub const BENCH_UNSENT_BYTES_MAX: usize = 64 * 1024;
/// Heartbeats it sends before it looks again what has come.
pub const BENCH_SENDS_PER_TURN_MAX: usize = 64;
/// Sockets it reads before it sends what is due meanwhile, and datagrams: so few that nothing waits for long.
pub const BENCH_EVENTS_PER_TURN_MAX: usize = 32;
/// Connections it ends before it looks again what has come, where many hosts go at once.
pub const BENCH_CLOSES_PER_TURN_MAX: usize = 8;
/// Seconds it waits for a connection to come about, and at the end for replies that are missing.
pub const BENCH_WAIT_S_MAX: u64 = 10;
/// Bytes of a file in `/proc` it reads at most; the rest is not looked at.
pub const BENCH_PROC_BYTES_MAX: u64 = 64 * 1024 * 1024;

const _: () = {
    assert!(
        READ_BUFFER_BYTES > FRAME_BYTES_MAX + FRAME_HEADER_BYTES,
        "a whole frame fits a read"
    );
    assert!(
        REPORT_BYTES_WAITING_MAX > 16 * FRAME_BYTES_MAX,
        "reports of several hosts fit"
    );
    assert!(LEASE_S > 2 * LEASE_RENEW_S, "one renewal may be missed");
    assert!(
        LEASE_WATCH_S > LEASE_RENEW_S,
        "a living owner is seen to renew"
    );
    assert!(
        SPOOL_RECORD_BYTES_MAX > 8 * FRAME_BYTES_MAX,
        "a report fits a record, even with every character escaped"
    );
    assert!(
        SPOOL_RECORD_BYTES_MAX > 16 * 1024 * 1024 / 3 * 4 + 8 * FRAME_BYTES_MAX,
        "the longest result that can be configured fits a record, in base64"
    );
    assert!(
        STORE_HANDS_OPS_MAX >= BATCH_OPS_MAX,
        "a whole batch is taken into the hands"
    );
    assert!(
        RESULT_BYTES_ADDRESS_MAX < RESULT_BYTES_HELD_MAX,
        "an address leaves room to others"
    );
    assert!(PAGE_SCAN_MAX >= PAGE_HOSTS_MAX, "a page can be full");
    assert!(BOOK_BYTES_MAX < FRAME_BYTES_MAX, "a book fits a frame");
    assert!(
        AGENT_STOP_MS_MAX > 3 * AGENT_KILL_MS,
        "a command ends before its agent is ended"
    );
    assert!(
        AGENT_UNREAD_BYTES_MAX
            > AGENT_REPORTS_IN_FLIGHT_MAX * FRAME_BYTES_MAX
                + AGENT_OUTPUT_BYTES_IN_FLIGHT_MAX as usize
                + AGENT_OUTPUT_BYTES_MAX,
        "what an agent sends of itself fits what may wait to be taken"
    );
    assert!(
        HTTP_CONNECTIONS_MAX + HTTP_SPARE_MAX < DESCRIPTORS_RESERVED,
        "HTTP has the descriptors it may use"
    );
};
