//! Every bound of the program, named with its unit, and the answer when it is reached. Relations
//! between bounds are checked at compile time.

/// Body of a frame, in bytes. A longer one is refused once its header has been read.
pub const FRAME_BYTES_MAX: usize = 65_535;
/// Header of a frame, in bytes.
pub const FRAME_HEADER_BYTES: usize = 4;
/// Nesting depth of a body. A deeper body is invalid data.
pub const NESTING_DEPTH_MAX: usize = 32;
/// Largest `seq` of a client: every JSON reader represents integers up to it exactly.
pub const SEQ_MAX: u64 = (1 << 53) - 1;
/// Outstanding acknowledgements for inventory reports of one host. The oldest is refused for a
/// further one.
pub const INVENTORY_ASKS_MAX: usize = 4;
/// Id of a host, in bytes.
pub const HOST_ID_BYTES_MAX: usize = 64;
/// Key of a task, in bytes.
pub const TASK_KEY_BYTES_MAX: usize = 64;
/// Positions in a slash body that are tried as the beginning of its two lists.
pub const SLASH_SPLITS_MAX: usize = 16;
/// Bytes that failed attempts at those positions may read. No further position is tried then.
pub const SLASH_TRIED_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// Received text quoted in an error, in characters. The rest is cut off.
pub const EXCERPT_CHARS_MAX: usize = 32;
/// Reason in a `keepRefused`, in characters. The rest is cut off.
pub const REFUSAL_CHARS_MAX: usize = 512;

/// Commands of one task recorded for one host if no book gives their number.
pub const COMPLETE_COMMANDS_MAX: usize = 4_096;
/// Header of the PROXY protocol, with its extensions, in bytes. A connection with a longer one is
/// closed.
pub const PROXY_HEADER_BYTES_MAX: usize = 2_048;
/// Connections from load balancers whose PROXY header is awaited, within the room for connections.
/// The oldest is closed for a new one, or for a connection that has no need of a header.
pub const PROXY_WAITING_MAX: usize = 1_024;
/// Text of the commands recorded as finished for one host of one task, in bytes: what one message
/// can list. Others are not recorded. Each report reads the whole list.
pub const COMPLETE_BYTES_MAX: usize = 65_535;
/// Tasks that one host may be busy with. A further one replaces the one with the oldest report.
pub const TASKS_AT_WORK_MAX: usize = 16;
/// Seconds for which an old client sleeps after its last command, and one second more. It reads no
/// datagram during that time, so it is sent no second copy.
pub const REST_S: u64 = 6;
/// Consecutive heartbeats of a plain host without a report that show that no command holds its send
/// lock.
pub const BEATS_OF_THE_IDLE_MIN: u32 = 4;
/// Least time from the first to the last of those heartbeats, in seconds.
pub const BEATS_OF_THE_IDLE_S: u64 = 30;
/// Timeouts that a plain host in the middle of a task has to return after a restart of the server.
pub const TIMEOUTS_OF_THE_BUSY: u64 = 10;
/// Text of an inventory report, in bytes. A longer report is refused.
pub const INVENTORY_BYTES_MAX: usize = 8_192;

/// Bytes read from one connection in a turn. The rest waits for the next turn, behind all other
/// connections.
pub const READ_BYTES_PER_TURN_MAX: usize = 256 * 1024;
/// Bytes requested from a socket in one call: the size of the buffer that all connections share.
pub const READ_BUFFER_BYTES: usize = 64 * 1024 + 4096;
/// Frames handled for one connection in a turn. With TLS also its records, with or without data.
pub const FRAMES_PER_TURN_MAX: usize = 256;
/// Bytes read from all connections in a turn. The ready connections share them, and each gets at
/// least [`READ_BYTES_PER_TURN_MIN`].
pub const READ_BYTES_PER_TURN_ALL: usize = 4 * 1024 * 1024;
/// Frames handled for all connections in a turn, shared likewise; each gets at least
/// [`FRAMES_PER_TURN_MIN`].
pub const FRAMES_PER_TURN_ALL: usize = 4_096;
/// Bytes that each ready connection may have read in a turn, whatever their number.
pub const READ_BYTES_PER_TURN_MIN: usize = 16 * 1024;
/// Frames that each ready connection may have handled in a turn, whatever their number.
pub const FRAMES_PER_TURN_MIN: usize = 16;
/// Slice of a turn, in microseconds, for each of: connections at the end of their budget, new
/// connections, accepting, outcomes of the store. It bounds how long a heartbeat of another host
/// waits for each of them.
pub const TURN_SLICE_US: u64 = 300;
/// Slice for hosts that answer a task while it is still being sent to others, in microseconds.
/// Sending comes first: an answer takes time of the loop and of the store thread.
pub const TURN_SLICE_SENDING_US: u64 = TURN_SLICE_US / 3;
/// Items of each slice that are served in every turn, however long they take.
pub const TURN_SLICE_FEW: u32 = 4;
/// Connections accepted in a turn.
pub const ACCEPTS_PER_TURN_MAX: usize = 256;
/// Readiness events taken from the kernel in one wait.
pub const EVENTS_PER_TURN_MAX: usize = 1_024;
/// Datagrams received in a turn.
pub const DATAGRAMS_PER_TURN_MAX: usize = 256;
/// Datagram from a host, in bytes. A longer one is dropped.
pub const DATAGRAM_IN_BYTES_MAX: usize = 2_048;
/// Signed datagram to a host, in bytes. A longer one is refused.
pub const DATAGRAM_SIGNED_BYTES_MAX: usize = 2_048;
/// Replay window of signed datagrams: numbers from the highest one down to this many below it are
/// accepted.
pub const DATAGRAM_WINDOW: u64 = 64;
/// Frame of a connection that must still prove its key, in bytes. A longer one is invalid data.
/// Such a connection holds one challenge, so the number of connections bounds their memory.
pub const UNPROVEN_FRAME_BYTES_MAX: usize = 512;
/// Hexadecimal digits of a nonce.
pub const NONCE_DIGITS: usize = 32;
/// Key file, in bytes. A longer one is refused.
pub const KEYS_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Descriptors that host connections may not use: HTTP, the store, the log, and the reserve of
/// `accept` need them.
pub const DESCRIPTORS_RESERVED: usize = 128;
/// Replies waiting for a peer that does not read, in bytes. Above this the connection is not read
/// either, so its silence ends it in time.
pub const UNREAD_REPLY_BYTES_MAX: usize = 64 * 1024;

/// Kernel send buffer of one connection, in bytes; the kernel doubles it for its own bookkeeping.
/// Without this bound a peer that never reads would take megabytes.
pub const KERNEL_SEND_BYTES: usize = 64 * 1024;
/// Kernel receive buffer of one connection, in bytes. A paused connection makes its peer wait once
/// it is full.
pub const KERNEL_RECEIVE_BYTES: usize = 256 * 1024;

/// Connections if the system sets no limit on descriptors.
pub const CONNECTIONS_MAX: usize = 1 << 20;
/// Share of the room for connections that one network (an IPv4 address or an IPv6 /64) may fill
/// with unproven connections: one part in this many. A connection is proven by its first message
/// or, where keys are demanded, by its key. The oldest unproven one is closed for each further one.
pub const UNPROVEN_PARTS: usize = 4;
/// Unproven connections that one network may have in any case.
pub const UNPROVEN_MIN: usize = 64;
/// Unproven connections examined to find the one to close.
pub const UNPROVEN_LOOKED_AT_MAX: usize = 64;
/// Time that the first connection of a network has for its first bytes before it may be closed for
/// a new one of the same or a higher rank, in milliseconds. The n-th connection has an n-th of it.
pub const UNPROVEN_SILENT_MS: u64 = 5;
/// The same during a TLS handshake or with an outstanding challenge.
pub const UNPROVEN_BUSY_MS: u64 = 2_000;
/// Cells of 4 bytes in each of the two rows of the table of ranks.
pub const UNPROVEN_RANK_CELLS: usize = 4_096;
/// Time after which ranks halve, in seconds.
pub const UNPROVEN_RANK_HALF_S: u64 = 60;
/// Connections that the kernel may hold before they are accepted. The kernel caps this value
/// itself.
pub const BACKLOG_MAX: i32 = 4_096;
/// Pause of accepting after the system had no descriptor or memory left, in milliseconds.
pub const ACCEPT_RETRY_MS: u64 = 100;
/// Closed connections that are kept open for [`LINGER_MS`], so that their peers can read the last
/// reply. A further one replaces the oldest.
pub const LINGERING_MAX: usize = 32;
/// Lifetime of such a connection, in milliseconds.
pub const LINGER_MS: u64 = 1_000;
/// Free buffers kept for later connections. Further ones are returned to the system.
pub const BUFFERS_KEPT_MAX: usize = 1_024;
/// Size of a buffer that may be kept, in bytes.
pub const BUFFER_KEPT_BYTES_MAX: usize = 4 * 1024;
/// Units of work (connections accepted, buffers lent, operations sent) after which freed memory is
/// returned to the system once the load is calm.
pub const STORM_WORK_MIN: u64 = 4_096;
/// Units of work a second that count as calm.
pub const CALM_WORK_PER_S_MAX: u64 = 256;
/// Longest lag of the horizon behind the clock, in milliseconds of running time.
pub const HORIZON_LAG_MS_MAX: u64 = 5_000;
/// Longest part of one turn that counts towards that lag, in milliseconds: a stopped process was
/// not running.
pub const TURN_COUNTED_MS_MAX: u64 = 100;
/// Milliseconds by which the clock of a requester may be ahead of the server's: a time further
/// ahead is in the future, and refused.
pub const CLOCKS_APART_MS_MAX: u64 = 5_000;
/// Requests of handles served in a turn. Each may examine [`PAGE_SCAN_MAX`] hosts.
pub const REQUESTS_PER_TURN_MAX: usize = 16;
/// Longest wait of the ready line for the first answer of the store, in milliseconds.
pub const READY_WAIT_MS_MAX: u64 = 1_500;
/// Seconds for which a handle waits for an answer of the loop.
pub const HANDLE_WAIT_S_MAX: u64 = 10;
/// Handles that wait for an answer of the core. A further one is refused for now.
pub const ASKERS_MAX: usize = 1_024;
/// Seconds for which such a handle waits: the longest dispatch, and the loop's own time.
pub const ASKER_S_MAX: u64 = DISPATCH_WAIT_S_MAX + HANDLE_WAIT_S_MAX;
/// Subscribers to events. A further one receives nothing.
pub const SUBSCRIBERS_MAX: usize = 64;
/// Seconds for which the loop goes on at shutdown, so that the store can settle outstanding
/// operations.
pub const SHUTDOWN_S_MAX: u64 = 5;
/// Seconds that the store thread then has to write the rest to the spool.
pub const STORE_STOP_S_MAX: u64 = 5;
const _: () = assert!(
    HTTP_CONNECTIONS_MAX + HTTP_SPARE_MAX + LINGERING_MAX + 16 <= DESCRIPTORS_RESERVED,
    "what is not a host's connection fits into the reserve"
);

/// Reports accepted and not yet settled by the store. Connections that report are paused while it
/// is full.
pub const REPORTS_WAITING_MAX: usize = 8_192;
/// Text of those reports, in bytes. Connections are paused likewise.
pub const REPORT_BYTES_WAITING_MAX: usize = 16 * 1024 * 1024;
/// Operations handed to the store thread as one batch.
pub const BATCH_OPS_MAX: usize = 2_048;
/// Presence changes that the store thread holds. Further ones wait in the core as a few bytes each.
/// The store thread runs one half of them while the loop prepares the other.
pub const PRESENCE_IN_FLIGHT_MAX: usize = 2 * STORE_RUN_OPS_MAX;
/// Interval between two batches of presence changes and last-seen times, in milliseconds. Many
/// changes then share one batch and one wake-up.
pub const GATHER_STATE_MS: u64 = 5;
/// Batches in the channel to the store thread. While it is full, presence stays in the host table
/// (the latest state wins), and reports stay counted above.
pub const BATCHES_WAITING_MAX: usize = 8;
/// Batches of outcomes in the channel back. The store thread waits while it is full; the loop never
/// waits.
pub const OUTCOMES_WAITING_MAX: usize = 64;
/// Hosts in one batch of last-seen times, or in one audit of the set.
pub const HOSTS_PER_OP_MAX: usize = 1_024;
/// Batches of last-seen times that the store thread holds. The next follows when one is settled, so
/// those of a large fleet are never all in memory at once.
pub const SEEN_IN_FLIGHT_MAX: usize = 4;
/// Presence changes of one host kept in order while an earlier one is being written. Beyond, an
/// online and the offline after it cancel out.
pub const TRANSITIONS_WAITING_MAX: usize = 16;
/// Hosts in the table, offline ones included. When full, the host that has been offline for longest
/// is evicted (the store keeps it). If all are online, a new host is refused.
pub const HOSTS_MAX: usize = 1 << 21;
/// New ids that one network (an IPv4 address or an IPv6 /64) may bring within a minute. A further
/// one is refused until the next minute.
pub const NEW_IDS_PER_NETWORK_MAX: u32 = 32_768;
/// Networks whose new ids are counted. Further ones in the same minute are not counted.
pub const NEW_NETWORKS_MAX: usize = 65_536;
/// Budget of events for hosts that have never stayed online for a timeout. Without budget, one
/// event `new-ids` gives their number instead.
pub const NEW_IDS_TOLD_MAX: u64 = 32_768;
/// Events by which that budget grows each second.
pub const NEW_IDS_TOLD_PER_S: u64 = 1;
/// Hosts of one network (an IPv4 address or an IPv6 /64) per minute that leave before a timeout and
/// have events of their own. Further ones are counted in the event `new-ids`.
pub const BRIEF_TOLD_MAX: u32 = 256;
/// Such hosts of all networks per minute. Beyond, only networks of which none has left so have
/// events of their own.
pub const BRIEF_TOLD_ALL_MAX: u32 = 1_024;
/// Offline hosts in the table that have never stayed online for a timeout. For a further one the
/// oldest is removed, here and in the store.
pub const BRIEF_HOSTS_MAX: usize = 16_384;
/// Such hosts examined to find one that can be removed: a host with a pending write cannot.
pub const BRIEF_LOOKS_MAX: usize = 64;
/// Ids whose replacements are watched. When full, those of the last minute stay, and no further id
/// is watched.
pub const FIGHTS_MAX: usize = 16_384;
/// Networks remembered for one of those ids, each with the time for which it held the id. The
/// shortest is dropped.
pub const TENURES_MAX: usize = 8;
/// Window in which reports on keys that this server never stored are counted, and the lifetime of
/// such a key without a task book, in seconds.
pub const STRAY_WINDOW_S: u64 = 3_600;
/// Such keys of one host within the window. Beyond each of these bounds the report is refused.
pub const STRAY_HOST_KEYS_MAX: usize = 16_384;
/// Such reports of one host within the window.
pub const STRAY_HOST_REPORTS_MAX: u32 = 65_536;
/// Text of such reports of one host, in bytes.
pub const STRAY_HOST_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Events of such reports of one host within the window. Further reports are stored, and counted in
/// the event `unknown-keys`.
pub const STRAY_HOST_TOLD_MAX: u32 = 4_096;
/// Events of such reports of all hosts within the window.
pub const STRAY_TOLD_MAX: u32 = 16_384;
/// Hosts with such reports within the window.
pub const STRAY_HOSTS_MAX: usize = 16_384;
/// Such reports of all hosts within the window.
pub const STRAY_REPORTS_MAX: u32 = 262_144;
/// Text of such reports of all hosts, in bytes.
pub const STRAY_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Events of the fleet itself (mass offline, quarantine) waiting for the store. When full, the
/// oldest is dropped and counted.
pub const NOTICES_WAITING_MAX: usize = 1_024;

/// Replacements of one id within [`QUARANTINE_WINDOW_S`]. Beyond, the id is quarantined.
pub const REPLACEMENTS_MAX: u32 = 15;
/// Window in which replacements are counted, and the time for which a quarantined id refuses other
/// connections, in seconds.
pub const QUARANTINE_WINDOW_S: u64 = 60;
/// Hosts that must go offline together before that is reported.
pub const MASS_OFFLINE_HOSTS_MIN: usize = 20;

/// PEM file, in bytes. A longer one is refused.
pub const PEM_FILE_BYTES_MAX: u64 = 1 << 20;
/// Steps of TLS handshakes in a turn, so that a storm of them does not delay heartbeats. One takes
/// up to half a millisecond.
pub const TLS_HANDSHAKES_PER_TURN_MAX: usize = 8;
/// Certificates of connected peers that are verified again in a turn, after one expired or the
/// authorities changed. One takes up to half a millisecond; the rest waits for the next turn.
pub const TLS_CHECKS_PER_TURN_MAX: usize = 8;
/// Connection slots scanned in a turn for such certificates.
pub const TLS_SLOTS_PER_TURN_MAX: usize = 4_096;
/// Seconds between two readings of the wall clock for expired certificates: the clock may have been
/// set.
pub const TLS_EXPIRY_LOOK_S: u64 = 60;
/// Memory of unfinished handshakes of all connections, in bytes. Beyond, a handshake longer than
/// [`TLS_HANDSHAKE_SPARED_BYTES`] is refused.
pub const TLS_HANDSHAKES_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes that each handshake may have in any case: more than one with two usual certificates takes.
/// The number of connections bounds their sum.
pub const TLS_HANDSHAKE_SPARED_BYTES: usize = 4 * 1024;
/// Outgoing bytes of one connection that TLS holds. Further bytes stay in the reply queue.
pub const TLS_BUFFER_BYTES_MAX: usize = 4096;
/// Encrypted bytes requested from a socket in one call.
pub const TLS_READ_BYTES: usize = 4096;
/// Received bytes of one connection that are kept while a record or a handshake message is
/// incomplete. A connection with more is closed.
pub const TLS_UNREAD_BYTES_MAX: usize = 64 * 1024;

/// Head of an HTTP request, in bytes. A longer one is answered with 431.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Body of an HTTP request, in bytes. A longer one is answered with 413.
pub const HTTP_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Part of a body that is read in one step, in bytes. A longer body takes further turns.
pub const HTTP_BODY_STEP_BYTES: usize = 64 * 1024;
/// Name or value within such a body, in bytes of JSON: a target of escapes fits. A longer one is
/// answered with 400.
pub const HTTP_MEMBER_BYTES_MAX: usize = 512 * 1024;
/// Seconds for a whole HTTP request, and the idle time of a kept-alive connection.
pub const HTTP_REQUEST_S_MAX: u64 = 10;
/// Seconds without progress after which an HTTP connection may be closed to make room for another:
/// its request does not continue, or its peer does not read.
pub const HTTP_STALLED_S: u64 = 1;
/// Bytes of a request or an answer within [`HTTP_STALLED_S`] that count as progress.
pub const HTTP_PROGRESS_BYTES: usize = 64 * 1024;
/// Milliseconds that a new HTTP connection has for its request. It is not closed for another one
/// meanwhile. Without this time, peers that reconnect fast would displace every new connection.
pub const HTTP_FRESH_MS: u64 = 200;
/// Milliseconds until an HTTP connection without a place is tried again.
pub const HTTP_PLACE_RETRY_MS: u64 = 10;
/// HTTP connections. A further one replaces the one idle for longest, else one with a wrong token,
/// else a stalled one; else it takes one of the [`HTTP_SPARE_MAX`] spare places.
pub const HTTP_CONNECTIONS_MAX: usize = 64;
const _: () = assert!(HTTP_STALLED_S < HTTP_REQUEST_S_MAX && HTTP_STALLED_S < HTTP_ANSWER_S_MAX);
/// Header lines of an HTTP request. A request with more is answered with 431.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Seconds for a peer to read an HTTP response. The connection is closed then.
pub const HTTP_ANSWER_S_MAX: u64 = 10;
/// Seconds for which a closed HTTP connection is still read, so that bytes on their way from the
/// peer do not destroy the response.
pub const HTTP_LINGER_S_MAX: u64 = 2;
/// HTTP connections beyond [`HTTP_CONNECTIONS_MAX`], so that health probes are answered while all
/// places are taken. Each has one request answered. A further one replaces the oldest that is no
/// longer fresh ([`HTTP_FRESH_MS`]), or waits for one.
pub const HTTP_SPARE_MAX: usize = 16;
/// Spare connections that may wait for the core. A further request is answered with 503.
pub const HTTP_SPARE_ASKS_MAX: usize = HTTP_SPARE_MAX / 2;
/// Delay of the response to a wrong token, in milliseconds. The connection is not read meanwhile,
/// and is the first to be closed when room is needed.
pub const HTTP_TOKEN_DELAY_MS: u64 = 1_000;
/// Characters of each text in the record of a request that changes something. The rest is cut off.
pub const AUDIT_TEXT_CHARS_MAX: usize = 200;
/// Refused requests to change something that raise an event `audit`, each second: of all peers with
/// a token, and as many of all peers without one. The others are counted only: a stranger must not
/// fill the event stream, nor hide the refusals of a token in it.
pub const AUDIT_REFUSALS_PER_S_MAX: u64 = 32;
/// Receivers of notifications, each with a thread. A further one is a configuration error.
pub const NOTIFY_RECEIVERS_MAX: usize = 16;
/// Words of the command of a receiver. A further one is a configuration error.
pub const NOTIFY_WORDS_MAX: usize = 64;
/// Messages that wait for a receiver. A further one is dropped and logged.
pub const NOTIFY_WAITING_MAX: usize = 64;
/// Events that the receivers' thread takes together. The others wait in its queue.
pub const NOTIFY_BATCH_MAX: usize = 256;
/// Time that receivers have for their last messages when the server stops, in milliseconds.
/// Messages that are left are dropped and logged.
pub const NOTIFY_END_MS: u64 = 2_000;
/// Conditions that have to last before a receiver is notified. A further one is reported at once.
pub const NOTIFY_LASTING_MAX: usize = 16_384;
/// Events shown in one message. Further ones are counted.
pub const NOTIFY_EVENTS_SHOWN_MAX: usize = 100;
/// Bytes requested from an HTTP socket in one call.
pub const HTTP_READ_BYTES: usize = 16 * 1024;
/// HTTP requests answered in a turn: at most one of each connection, and within [`TURN_SLICE_US`].
/// A connection that delivers [`HTTP_READ_BYTES`] or more counts as well.
pub const HTTP_ANSWERS_PER_TURN_MAX: usize = 8;
/// HTTP connections accepted in a turn.
pub const HTTP_ACCEPTS_PER_TURN_MAX: usize = 16;
/// Pause of accepting after the system had no descriptor or memory left, in milliseconds.
pub const HTTP_ACCEPT_RETRY_MS: u64 = 100;
/// Seconds for which an HTTP request waits for an answer of the core: the longest dispatch, and the
/// loop's own time. It is answered with 503 then.
pub const HTTP_ASK_S_MAX: u64 = DISPATCH_WAIT_S_MAX + 5;
/// HTTP connections that follow the events. A further one replaces a stalled one, else it is
/// answered with 503.
pub const HTTP_FOLLOWERS_MAX: usize = 16;
/// Text of events waiting for one follower, in bytes. A slower follower is disconnected.
pub const HTTP_FOLLOWER_BYTES_MAX: usize = 1024 * 1024;
/// Text of events at which a follower's socket is written in the middle of a turn, in bytes.
pub const HTTP_FOLLOWER_FLUSH_BYTES: usize = 64 * 1024;
/// Seconds between two comments that keep an event stream alive.
pub const HTTP_FOLLOWER_COMMENT_S: u64 = 15;
/// Hosts on one page.
pub const PAGE_HOSTS_MAX: usize = 1_000;
/// Host table entries examined for one page. A page may therefore be short, with a cursor to
/// continue.
pub const PAGE_SCAN_MAX: usize = 20_000;

/// Response that the command line accepts from a server, in bytes. A longer one is an error.
pub const API_ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Token in a file, in bytes. A longer one is refused.
pub const API_TOKEN_BYTES_MAX: u64 = 4_096;
/// Pages that the command line requests in a row. A server with more pages than a full host table
/// has is not Anthill: an error.
pub const API_PAGES_MAX: usize = 3 * HOSTS_MAX / PAGE_HOSTS_MAX;
/// Hosts of a task that the command line requests at a time: all their outputs must fit one
/// response.
pub const API_TASK_HOSTS: usize = 100;
/// Pages of those requested in a row. More are an error likewise.
pub const API_TASK_PAGES_MAX: usize = DELIVERIES_MAX / API_TASK_HOSTS + 1;
/// File of commands for a dispatch, in bytes. A longer one is refused; a book holds far less.
pub const TASKS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Line of a console script, in bytes. A longer one is refused.
pub const CONSOLE_LINE_BYTES_MAX: usize = 64 * 1024;
/// Lines in the history of the console.
pub const CONSOLE_HISTORY_LINES_MAX: usize = 1_000;
/// Event that `anthill events` reads, in bytes. A longer line ends the stream.
pub const API_EVENT_BYTES_MAX: u64 = 1024 * 1024;
/// Events kept for clients that reconnect. The oldest is dropped. As many again are kept of hosts
/// that have never stayed for a timeout and of keys that were never stored.
pub const EVENTS_RECENT_MAX: usize = 1_024;
/// Target expression, in bytes. A longer one is refused.
pub const TARGET_BYTES_MAX: usize = 64 * 1024;
/// Parts of a target: each name, each number or span in brackets, and each value of `in (…)`. A
/// target with more is refused. The parts of its groups are counted with it.
pub const TARGET_PARTS_MAX: usize = 4_096;
/// Terms of a target with which every host must be compared: globs, networks, groups and labels. A
/// target with more is refused. Plain ids and numbered names are not counted; the terms of its
/// groups are.
pub const TARGET_PATTERNS_MAX: usize = 256;
/// Terms of a target with which every host must be compared, for each of which a step handles that
/// part fewer hosts: with so many it handles half of them.
pub const TARGET_PATTERNS_PER_STEP: usize = 8;
/// Groups within groups along one path. A target that goes deeper is refused.
pub const TARGET_GROUPS_DEPTH_MAX: usize = 8;
/// Groups that are looked up for one target, each as often as it is named. A target with more is
/// refused.
pub const TARGET_GROUPS_MAX: usize = 64;
/// Names that are compared to find the one most like a term without a match. The others are not
/// suggested.
pub const TARGET_NEAREST_LOOKS_MAX: usize = 16_384;
/// Steps of a rollout. More are refused.
pub const ROLLOUT_STEPS_MAX: usize = 64;
/// Longest time of a wave unless the request sets another, in seconds. The rollout pauses after it.
pub const WAVE_TIMEOUT_S: u64 = 3600;
/// Labels of a host, from all sources together. More from an administrator are refused; more from
/// the host itself are dropped.
pub const LABELS_MAX: usize = 32;
/// Labels of an agent with a key, in bytes: its hello must fit [`UNPROVEN_FRAME_BYTES_MAX`] with its
/// other members. More are refused at its start.
pub const LABEL_BYTES_KEYED_MAX: usize = 128;
/// Different texts among the keys and values of all hosts. A label with another text is refused
/// where an administrator sets it, and dropped where a host claims it.
pub const LABEL_WORDS_MAX: usize = 262_144;
/// The same while a host claims a label with a new text: the rest is for administrators and the
/// configuration.
pub const LABEL_WORDS_CLAIMED_MAX: usize = LABEL_WORDS_MAX / 2;
/// Changes of labels in one request. More are refused.
pub const LABEL_CHANGES_MAX: usize = 2 * LABELS_MAX;
/// Body of a request that changes labels, in bytes. A longer one is refused.
pub const LABEL_BODY_BYTES_MAX: usize = 16 * 1024;
/// Unmatched word of a target for which a similar name is searched, in characters.
pub const TARGET_NEAREST_CHARS_MAX: usize = 64;
/// Distance of a similar name, in changed characters.
pub const TARGET_NEAREST_DISTANCE_MAX: usize = 8;
/// Entries of `labels` in the configuration. More are refused.
pub const LABEL_RULES_MAX: usize = 256;
/// Groups of the configuration. More are refused.
pub const TARGET_GROUP_NAMES_MAX: usize = 1_024;
/// Requests that wait until the labels of a host are written. Another one is refused for now.
pub const LABEL_WRITES_WAITING_MAX: usize = 1_024;
/// Key or value of a label, and name of a group, in bytes. A longer one is refused.
pub const LABEL_BYTES_MAX: usize = 63;
/// Pages of hosts that the console reads to complete a name.
pub const CONSOLE_COMPLETION_PAGES_MAX: usize = 10;

/// Tasks in memory. When full, the oldest finished one is evicted (the store keeps it). Without a
/// finished one a dispatch is refused for now.
pub const TASKS_MAX: usize = 16_384;
/// Quarters of the tasks, deliveries and book bytes in the core that may belong to tasks waiting
/// for offline hosts. Beyond, a dispatch that would wait is refused for now, so one that goes out
/// at once always finds room.
pub const QUEUED_QUARTERS_MAX: usize = 3;
/// Hosts of all tasks in memory together. Full likewise.
pub const DELIVERIES_MAX: usize = 1 << 21;
/// Task book, in bytes: its commands as ASCII-escaped JSON and the longest of them once more.
pub const BOOK_BYTES_MAX: usize = 60_000;
/// Text of all books in the core, in bytes. Full likewise.
pub const BOOKS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Datagram to a host, in bytes. Old clients read no more.
pub const DATAGRAM_BYTES_MAX: usize = 1_024;
/// Tasks being rewritten to a store that lost its data. The next follows when one is settled.
pub const RESTORES_IN_FLIGHT_MAX: usize = 8;
/// Datagrams and pushes sent in a turn.
pub const SENDS_PER_TURN_MAX: usize = 1_024;
/// Dispatches that wait for the store. A further one is refused for now.
pub const DISPATCHES_WAITING_MAX: usize = 64;
/// Hosts of one request handled in one step. A request with more continues in later turns, for
/// [`TURN_SLICE_US`] of each.
pub const HOSTS_PER_STEP_MAX: usize = 256;
/// Pages of a target's hosts at once (`/v1/hosts?target=`). A further one is answered with 503.
pub const LISTINGS_MAX: usize = 16;
/// Seconds for which a survey or a listing may go on, beside many others on a busy server. It is
/// answered with 503 then.
pub const WALK_S_MAX: u64 = 10;
/// Surveys of the fleet at once (`/v1/summary`, `/v1/fleet`). A further one is answered with 503.
pub const SURVEYS_MAX: usize = 16;
/// Groups that a summary names. The smaller ones are counted together.
pub const SUMMARY_GROUPS_MAX: usize = 64;
/// Hosts that a summary names because they have been silent for longest.
pub const SUMMARY_SILENT_MAX: usize = 10;
/// Hosts on one page of `/v1/fleet`.
pub const FLEET_HOSTS_MAX: usize = 100_000;
/// Bytes of JSON on one page of `/v1/fleet`, about: a page ends with the host that reaches them.
pub const FLEET_BYTES_MAX: usize = 4_000_000;
/// Levels of groups of `/v1/fleet`.
pub const FLEET_LEVELS_MAX: usize = 2;
/// Bytes of a body of HTTP from which on it is compressed for a distant peer that accepts it.
pub const HTTP_GZIP_BYTES_MIN: usize = 16_384;
/// Bytes of a body that are compressed in one step: about 0.4 ms.
pub const HTTP_GZIP_BYTES_PER_STEP_MAX: usize = 65_536;
/// Hosts written into a response in one step. A longer response continues in later turns.
pub const HOSTS_SHOWN_PER_STEP_MAX: usize = 1_024;
/// Seconds for which a requester waits for the store's outcome of a dispatch.
pub const DISPATCH_WAIT_S_MAX: u64 = 10;
/// Read requests that the store thread holds. A further one is refused for now.
pub const READS_WAITING_MAX: usize = 256;
/// Questions about many hosts that the store thread has at once, so that the writes of hosts do not
/// wait for all of them. Further ones follow as these are answered.
pub const READS_LARGE_MAX: usize = 4;
/// Hosts from which on a question about them by name counts among those.
pub const READ_LARGE_HOSTS: usize = 64;
/// Milliseconds for which a copy of the hosts of other nodes is young enough to answer; longer if
/// reading it takes longer.
pub const FOREIGN_YOUNG_MS: u64 = 1_000;
/// Seconds after its last use for which the copy is kept.
pub const FOREIGN_KEPT_S: u64 = 60;
/// Seconds without a page after which a scan for the copy counts as lost. The next request begins
/// another.
pub const FOREIGN_PAGE_S_MAX: u64 = 15;
/// Multiple of the time of its reading for which an older copy still answers surveys, while it is
/// read anew. Only if that takes more than [`FOREIGN_YOUNG_MS`].
pub const FOREIGN_OLD_FACTOR: u64 = 4;
/// Milliseconds for which a survey waits for the first copy. Then it is answered with the hosts read
/// so far, and says so.
pub const FOREIGN_PATIENCE_MS: u64 = 4_000;
/// Requests that wait for the copy. Further ones are answered 503.
pub const FOREIGN_WAITING_MAX: usize = 64;
/// Unfinished results of all connections, in bytes. Beyond, their connections are paused.
pub const RESULT_BYTES_HELD_MAX: usize = 64 * 1024 * 1024;
/// Share of one network (an IPv4 address or an IPv6 /64) in them, in bytes. Beyond, its connections
/// are paused.
pub const RESULT_BYTES_ADDRESS_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a result that count as progress.
pub const RESULT_PROGRESS_BYTES: usize = 64 * 1024;
/// Seconds without such progress after which a result is refused, if connections wait for room.
pub const RESULT_STALLED_S: u64 = 2;
/// Milliseconds between two checks for such results while connections wait.
pub const RESULT_LOOK_MS: u64 = 500;
/// Bytes of a result that count as one message.
pub const RESULT_BYTES_A_MESSAGE: u64 = 16 * 1024;
/// Seconds for which a result may wait for room before it is refused.
pub const RESULT_WAIT_S_MAX: u64 = 60;
/// Part of each output shown with its task, in bytes. The whole output can be requested separately.
pub const OUTPUT_SHOWN_BYTES_MAX: usize = 4_096;
/// Hosts on one page of a task.
pub const PAGE_TASK_HOSTS_MAX: usize = 1_000;
/// Tasks on one page.
pub const PAGE_TASKS_MAX: usize = 1_000;
/// Console commands remembered. The oldest is dropped for a further one.
pub const COMMANDS_MAX: usize = 1_024;

/// Hosts of all remembered console commands together. The oldest commands are dropped. A command to
/// more hosts than this is refused.
pub const COMMAND_HOSTS_MAX: usize = 1 << 20;

/// Results that one host may send for commands that the task's book does not have, for each task.
/// Further ones are refused.
pub const UNLISTED_RESULTS_MAX: u8 = 16;
/// Results that one host may send for one console command. Further ones are refused.
pub const COMMAND_RESULTS_MAX: u8 = 16;
/// Hosts that report on tasks before the store was reached for the first time, one entry a task.
/// Reports of further hosts are stored, but their states here lag.
pub const EARLY_REPORTS_MAX: usize = 65_536;

/// Requests of handles that wait for the loop. A handle waits while it is full.
pub const REQUESTS_WAITING_MAX: usize = 1_024;
/// Events waiting for one subscriber. Further ones are dropped for it, and it learns their number.
pub const EVENTS_WAITING_MAX: usize = 4_096;
/// Log lines waiting for the log thread. Further ones are dropped and counted, and a line gives
/// their number.
pub const LOG_LINES_WAITING_MAX: usize = 8_192;
/// The same in an agent, which writes few lines: the places take 100 bytes each.
pub const AGENT_LOG_LINES_WAITING_MAX: usize = 128;

/// Entries to which the event stream is trimmed, approximately.
pub const STREAM_ENTRIES_MAX: usize = 100_000;
/// Entries in the inbox of a node, about. Beyond that a dispatch to its hosts is refused with 503, and
/// its oldest entries are dropped: a look at the store every [`LOOK_ROUND_S`] finds what they said.
pub const INBOX_ENTRIES_MAX: usize = 10_000;
/// Hosts in an entry of an inbox, and in a question about hosts of other nodes.
pub const BELL_HOSTS_MAX: usize = 1_000;
/// Times that an entry of an inbox is forwarded at most, while its host moves.
pub const BELL_HOPS_MAX: u8 = 4;
/// Entries of the inbox in work at most. Others wait in the store.
pub const BELLS_IN_WORK_MAX: usize = 64;
/// Interval of reading the inbox, in milliseconds, while nothing comes.
pub const INBOX_IDLE_MS: u64 = 500;
/// The same under Sentinel and in a Cluster, where the connection has more upkeep.
pub const INBOX_REPLICATED_IDLE_MS: u64 = 1_000;
/// Interval of reading the inbox, in milliseconds, for [`INBOX_BUSY_S`] after an entry or a dispatch.
pub const INBOX_BUSY_MS: u64 = 50;
/// Time for which an inbox counts as busy, in seconds.
pub const INBOX_BUSY_S: u64 = 3;
/// Seconds for which the store has a console command with hosts at several nodes.
pub const COMMAND_KEEP_S: u64 = 3_600;
/// Letters between nodes that wait for an answer at most. A further one is refused with 503, or is not
/// read.
pub const LETTERS_MAX: usize = 256;
/// Seconds for which a node waits for the keeper of a task that is paused, resumed or cancelled; then
/// its requester is told to ask again.
pub const CONTROL_WAIT_S: u64 = 8;
/// Seconds for which the keeper of a cancelled task waits for the nodes of its hosts; then those hosts
/// count as not asked.
pub const CANCEL_WAIT_S: u64 = 3;
/// Seconds after which a letter that changes a task is dropped: the keeper stood still, and the
/// requester is told to ask again.
pub const LETTER_AGE_S_MAX: u64 = 7;
/// Hosts that an answer of another node names as not asked, at most.
pub const CANNOT_SHOWN_MAX: usize = 10_000;
/// Interval of the looks at open tasks in the store, in seconds, beside other nodes.
pub const LOOK_ROUND_S: u64 = 60;
/// Questions about tasks of several nodes that are with the store at once.
pub const LOOKS_IN_FLIGHT_MAX: usize = 8;
/// Questions about tasks of several nodes that wait at most. Beyond that they are dropped: the next
/// round asks again.
pub const LOOKS_WAITING_MAX: usize = 16_384;
/// Open tasks that one look compares with its hosts, the most that the set may have.
pub const OPEN_TASKS_MAX: usize = 4 * TASKS_MAX;
/// Fields of open tasks read in one step of a look.
pub const OPEN_FIELDS_PER_STEP_MAX: usize = 20_000;
/// Lifetime of the node's lease, in seconds.
pub const LEASE_S: u64 = 15;
/// Seconds between two renewals of the lease.
pub const LEASE_RENEW_S: u64 = 5;
/// Seconds for which a lease found at the start must not be renewed before it counts as dead.
pub const LEASE_WATCH_S: u64 = 6;
/// Seconds between two log lines about a lease that another server renews.
pub const LEASE_CONTEST_LOG_S: u64 = 60;
/// Seconds between two audits: checks that the store's set of online hosts holds all of ours.
pub const AUDIT_S: u64 = 10;

/// AK devices in the configuration. More are refused.
pub const AK_DEVICES_MAX: usize = 1_024;
/// Commands of one device, and fields of one command. More are refused.
pub const AK_COMMANDS_MAX: usize = 32;
/// Reply of a device between STX and ETX, in bytes. A longer one is invalid data: the connection is
/// closed.
pub const AK_REPLY_BYTES_MAX: usize = 8_192;
/// Part of each value shown in the list of all devices, in bytes. The whole value is shown with its
/// device.
pub const AK_DATA_SHOWN_BYTES_MAX: usize = 256;
/// Bytes between two replies that belong to neither. More are invalid data likewise.
pub const AK_NOISE_BYTES_MAX: usize = 16_384;
/// Milliseconds before the first reconnect to a device. Doubled with each failure.
pub const AK_RETRY_MS_MIN: u64 = 1_000;
/// Longest wait between two attempts to connect to a device, in milliseconds.
pub const AK_RETRY_MS_MAX: u64 = 5_000;
/// Least time for a connection attempt to a device, in milliseconds, however short its
/// `timeout_ms`: the kernel repeats its first packet after one second.
pub const AK_CONNECT_MS_MIN: u64 = 1_500;
/// Longest time for a connection attempt to a device, in milliseconds, however long its
/// `timeout_ms`: a device without power answers nothing, and others wait for the place.
pub const AK_CONNECT_MS_MAX: u64 = 5_000;
/// Milliseconds for which a newly connected device is listened to before the first request. A
/// converter in front of it may still hold the late reply to a request of the previous connection.
pub const AK_LISTEN_MS: u64 = 50;
/// Milliseconds by which the loop may be late for devices. If it is later, it stood still, and that
/// time makes no data stale.
pub const AK_STANDSTILL_MS: u64 = 500;
/// Devices with a connection attempt in progress; the others wait. This is half of
/// [`AK_DEVICES_MAX`]: even if no device answers, each is tried for as long as it rests.
pub const AK_CONNECTING_MAX: usize = 512;
/// Milliseconds between two connection attempts to devices, so that their requests do not come in
/// step.
pub const AK_DIAL_EVERY_MS: u64 = 1;
/// Targets of `reach` in the configuration. More are refused.
pub const REACH_TARGETS_MAX: usize = 1_024;
/// Text of one target, in bytes. A longer one is refused.
pub const REACH_TARGET_BYTES_MAX: usize = 128;
/// Targets with a probe in progress. The others wait.
pub const REACH_PROBES_MAX: usize = 512;
/// Milliseconds for a target to answer, or its period if that is shorter.
pub const REACH_WAIT_MS_MAX: u64 = 3_000;
/// Connection attempts begun in a turn, to devices and to targets each. The rest waits for the next
/// turn.
pub const DIALS_PER_TURN_MAX: usize = 32;
/// Devices and their sockets served in a turn. The others wait for the next turn, and heartbeats
/// come between.
pub const DEVICES_PER_TURN_MAX: usize = 8;
/// Bytes read from one of those sockets in a turn. The rest waits for the next turn.
pub const DIALED_BYTES_PER_TURN_MAX: usize = 16 * 1024;
/// Seconds for which a node keeps the lease of a device or target after the last renewal.
pub const POLL_LEASE_S: u64 = 15;
/// Seconds after the request of a renewal for which a node polls: it stops before the lease ends.
pub const POLL_VALID_S: u64 = 12;
/// Seconds between two requests of a lease, held or not.
pub const POLL_EVERY_S: u64 = 5;
/// Seconds for which a node must have been alone on its store, so that it keeps polling while the
/// store is unavailable.
pub const POLL_ALONE_S: u64 = 60;
/// Milliseconds between two writes of the state of devices and targets. Changes in between are
/// written once.
pub const OUTSIDE_WRITE_MS: u64 = 200;
/// Seconds after the store became available at which that state is rewritten as a whole.
pub const OUTSIDE_AGAIN_S: u64 = 5;
/// Seconds after which the unchanged values of a device are written together with the changed ones.
pub const OUTSIDE_ALL_S: u64 = 10;
/// Devices, and targets, written in one batch. Hosts wait while it is prepared.
pub const OUTSIDE_OPS_MAX: usize = 32;
/// Least time between two of these batches, in milliseconds, so that they leave most of the store
/// thread to hosts.
pub const OUTSIDE_PACE_MS: u64 = 50;

/// Page cache of the embedded store, in bytes.
pub const EMBEDDED_CACHE_BYTES: usize = 16 * 1024 * 1024;
/// File of the embedded store without its mark, in bytes, that counts as unfinished and is created
/// anew. A larger one is left untouched and refused.
pub const EMBEDDED_NEW_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Keys, and last-seen times, examined by one sweep of the embedded store. The next sweep continues
/// there.
pub const SWEEP_ROWS_MAX: usize = 65_536;
/// Commands sent to Redis before their replies are read.
pub const REDIS_WINDOW_COMMANDS_MAX: usize = 1_000;
/// Bytes sent to Redis before the replies are read. A single longer command is sent alone.
pub const REDIS_WINDOW_BYTES_MAX: usize = 256 * 1024;
/// Reads of a TLS connection to Redis without data, since a TLS record need not hold any. The
/// connection is closed then, and the store counts as unavailable.
pub const REDIS_TLS_READS_MAX: usize = 256;
/// Push messages of Redis between two replies. Beyond, the connection is closed likewise.
pub const REDIS_PUSHES_MAX: usize = 1_000;
/// Servers named in a `store.url`. More are refused when it is read.
pub const REDIS_SEEDS_MAX: usize = 32;
/// Primaries of a Redis Cluster. Beyond, the store counts as unavailable.
pub const CLUSTER_PRIMARIES_MAX: usize = 1_000;
/// Times that a command is sent in a Redis Cluster which redirects it. Then the store counts as
/// unavailable.
pub const CLUSTER_ROUNDS_MAX: usize = 8;
/// Seconds after which the map of a Redis Cluster's slots is read again.
pub const CLUSTER_REFRESH_S: u64 = 30;
/// Least milliseconds between two readings of that map while slots move.
pub const CLUSTER_REFRESH_MS_MIN: u64 = 1_000;
/// Host keys in one command to Redis, which serves no other client meanwhile.
pub const REDIS_KEYS_MAX: usize = 64;
/// Words that a Lua script passes to one command; Lua has room for some 8,000.
pub const LUA_WORDS_MAX: usize = 1_000;
/// Set members in one command to Redis.
pub const REDIS_MEMBERS_MAX: usize = 1_000;
/// Reports whose write was interrupted and whose event is raised when they are repeated. Beyond
/// this number events may be lost; the state is written all the same.
pub const EVENTS_OWED_MAX: usize = 4 * BATCH_OPS_MAX;
/// Configuration file, in bytes. A longer one is refused.
pub const CONFIG_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Token file, in bytes. A longer one is refused.
pub const TOKEN_FILE_BYTES_MAX: u64 = 4_096;
/// File of the HTTP tokens, in bytes. A longer one is refused.
pub const TOKENS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Tokens of the HTTP API. A request compares its token with all of them. More are refused.
pub const HTTP_TOKENS_MAX: usize = 1_024;
/// Groups of equal results whose outputs are in an answer. The others have only their digests.
pub const GROUP_OUTPUTS_MAX: usize = 32;
/// Beginning of an output in an answer of groups, in bytes. The rest is left out.
pub const GROUP_OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Lines of an output that the command line compares with another. A longer one is shown whole.
pub const DIFF_LINES_MAX: usize = 2_000;
/// Past transitions of a host that are remembered. The oldest is dropped.
pub const HISTORY_TRANSITIONS_MAX: usize = 32;
/// Milliseconds by which the time of a transition may be ahead of the clock, so that transitions of
/// one millisecond keep their order. Above it, the clock was set back, and its time is taken.
pub const TRANSITIONS_AHEAD_MS_MAX: u64 = 1_000;
/// Days for which the number of hosts online is remembered by minute. Older counts are dropped.
pub const HISTORY_DAYS: u64 = 30;
/// Minutes of counts in one answer. A larger number is lowered to this one.
pub const HISTORY_MINUTES_MAX: u64 = HISTORY_DAYS * 24 * 60;
/// Hours of counts that wait in memory for the store. The oldest is dropped.
pub const HISTORY_HOURS_WAITING_MAX: usize = 48;
/// Runs of a server that are remembered. The oldest is dropped.
pub const HISTORY_RUNS_MAX: usize = 64;
/// Seconds between two counts of the hosts online. A changed count, and the first of a minute, is
/// written with the time of the run.
pub const HISTORY_WRITE_S: u64 = 10;
/// Entries of one list or map of the configuration. More are refused.
pub const CONFIG_ENTRIES_MAX: usize = 64;
/// Wrong values of a configuration that `check-config` shows. The rest is not shown.
pub const CONFIG_ERRORS_MAX: usize = 32;
/// Message of a log line, in bytes. The rest is cut off.
pub const LOG_MESSAGE_BYTES_MAX: usize = 4_096;
/// Part of a peer's message that a trace line shows, in bytes. The rest is cut off.
pub const LOG_TRACE_BYTES_MAX: usize = 512;
/// Fields of a log line. Further ones are left out.
pub const LOG_FIELDS_MAX: usize = 8;
/// Similar lines (one target, one host) written within [`LOG_WINDOW_S`]. Further ones are counted.
pub const LOG_LINES_ALIKE_MAX: u32 = 20;
/// Audit lines of requests that succeeded, of one sender, written within [`LOG_WINDOW_S`]. Further
/// ones are counted; the events have all of them.
pub const LOG_AUDIT_LINES_MAX: u32 = 1_000;
/// Window in which similar lines are counted, in seconds.
pub const LOG_WINDOW_S: u64 = 10;
/// Pairs of target and host counted within a window. All further ones of a target count as one.
pub const LOG_PAIRS_MAX: usize = 8_192;
/// Log text gathered before it is written, in bytes, approximately.
pub const LOG_BATCH_BYTES: usize = 256 * 1024;
/// Memory for that text kept from one batch to the next, in bytes.
pub const LOG_KEPT_BYTES: usize = 16 * 1024;
/// Seconds for which the end of the program, or a flush, waits for a log that cannot be written.
pub const LOG_FLUSH_S_MAX: u64 = 5;
/// Pending operations of the store thread. It takes no batch for which there is no room.
pub const STORE_PENDING_OPS_MAX: usize = 4_096;
/// Operations run at once. A few hundred cost no more each than thousands do, and their commands
/// and replies take a hundred kilobytes instead of megabytes.
pub const STORE_RUN_OPS_MAX: usize = 256;
/// Spool records, or reports of the replay buffer, written in one batch.
pub const REPLAY_OPS_MAX: usize = 1_024;
/// Size of such a batch on disk, in bytes. A larger record is written alone.
pub const REPLAY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Records left in the spool at which the store thread takes nothing new until it is empty, so that
/// a steady flow of reports cannot keep it from becoming empty.
pub const SPOOL_TAIL_RECORDS: u64 = 4 * REPLAY_OPS_MAX as u64;
/// Segment file of the spool, in bytes. A segment with a larger batch may exceed it.
pub const SPOOL_SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Record of the spool, in bytes. A longer report is refused.
pub const SPOOL_RECORD_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Bytes replayed between two records of the replay position.
pub const SPOOL_MARK_BYTES: usize = 1024 * 1024;
/// Event numbers reserved for one run of a server: two years of a thousand events a second. Each
/// start with a clock that is behind uses up this many of the 2⁵³ there are.
pub const EVENTS_OF_A_LIFE_MAX: u64 = 1 << 36;
/// File of rejected records, in bytes. It is renamed to `rejected.1` then, and an older
/// `rejected.1` is deleted.
pub const REJECTED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Scheduler slice of the loop's thread, in microseconds: the least that the kernel grants.
pub const LOOP_SLICE_US: u64 = 100;
/// Niceness of the store thread relative to the loop. If both want the same processor, the store
/// thread gets about a quarter of it.
pub const STORE_NICENESS: i32 = 5;
/// Niceness of the log thread relative to the loop.
pub const LOG_NICENESS: i32 = 10;
/// Seconds for which a stored report stays in the replay buffer.
pub const RECENT_S: u64 = 10;
/// The same where a replica may take over without the last writes: under Sentinels and in a Cluster.
pub const REPLICATED_RECENT_S: u64 = 30;
/// Hosts whose lists in a task are cached. When there are more, all are read again.
pub const PROGRESS_CACHE_ENTRIES_MAX: usize = 65_536;
/// Memory of these lists, in bytes. Full likewise.
pub const PROGRESS_CACHE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Milliseconds between two questions to the Sentinels whether the master is still the master. It
/// must find a replaced one long before the replay buffer forgets what that one confirmed.
pub const SENTINEL_WATCH_MS: u64 = 2_000;
/// Reports in the replay buffer. When full, the oldest is dropped.
pub const RECENT_OPS_MAX: usize = 32_768;
/// Text in the replay buffer, in bytes. Full likewise.
pub const RECENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// File that holds the replay buffer while the store is unavailable, in bytes. The oldest reports
/// beyond it are in memory only.
pub const RECENT_FILE_BYTES_MAX: u64 = 2 * RECENT_BYTES_MAX as u64;
/// Tasks read in one step at the start.
pub const TASKS_PER_LOOK_MAX: usize = 16;
/// Tasks examined by one sweep. The next sweep continues there.
pub const SWEEP_TASKS_MAX: usize = 1_024;
/// Hosts whose progress is read from Redis in one step of a read request.
pub const READ_HOSTS_PER_STEP_MAX: usize = 16;
/// Outputs in the response to one read request, in bytes of base64. An output without room is left
/// out, and can be requested separately.
pub const READ_OUTPUT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest wait between two attempts to reach an unavailable store, in milliseconds.
pub const STORE_RETRY_MS_MAX: u64 = 1_000;
/// Milliseconds of idleness after which the store is pinged.
pub const STORE_IDLE_MS: u64 = 1_000;
/// Milliseconds between two checks for a closed connection while confirmed reports are in memory
/// only. If the store dies, memory holds their only copy for this long, and until they are on disk.
pub const STORE_LOOK_MS: u64 = 20;
/// Seconds between two sweeps for expired data in the store.
pub const STORE_SWEEP_S: u64 = 60;
/// Panics of the store thread, each within [`STORE_CARE_S`] of the previous one, after which
/// operations are run one by one. An operation that panics again is rejected.
pub const STORE_PANICS_MAX: u32 = 3;
/// Seconds without a panic after which operations are run in batches again.
pub const STORE_CARE_S: u64 = 60;
/// File of the embedded store that is read whole at the start, in bytes, so that damage is found
/// before anything is served. In a larger file damage is found when it is read.
pub const EMBEDDED_CHECK_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Longest interval between two checks of other nodes' leases, in seconds.
pub const NODE_LOOK_S: u64 = 5;
/// Interval between two such checks beyond which earlier observations are discarded, in seconds:
/// the store or this node stood still.
pub const NODE_LOOK_GAP_S: u64 = 10;
/// Other nodes that are watched. Further ones wait until some of these have gone.
pub const NODES_SEEN_MAX: usize = 1_000;
/// Connections that one operation may break in a row, each time alone. It is rejected then.
pub const SUSPECT_BREAKS_MAX: u32 = 3;
/// Operations remembered as a possible cause of a broken connection. When full, those that have
/// broken none alone are dropped first.
pub const SUSPECTS_MAX: usize = 2 * REPLAY_OPS_MAX;
/// Milliseconds between two checks of a lease that another process holds.
pub const LEASE_LOOK_MS: u64 = 500;
/// Milliseconds by which a lease may appear to have grown without a renewal.
pub const LEASE_GROWTH_MS: u64 = 500;

/// Seconds after which an agent tries a full or read-only disk again. Until then it sends
/// heartbeats and takes no work.
pub const AGENT_DISK_RETRY_S: u64 = 30;
/// Tasks and console commands that an agent has taken and not finished. A further one is not
/// answered, so the server sends it again.
pub const AGENT_TASKS_WAITING_MAX: usize = 64;
/// Age in seconds beyond which a restarted agent does not begin a console command of an earlier
/// process; its result says so. A task is begun at any age if the server still has it.
pub const AGENT_COMMAND_RESUME_S_MAX: u64 = 3_600;
/// Reports that an agent keeps for the server. When full, it takes no further task.
pub const AGENT_REPORTS_WAITING_MAX: usize = 16_384;
/// Output that an agent keeps for the server, in bytes. Beyond, output is dropped, and its result
/// says `truncated`.
pub const AGENT_OUTPUTS_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Output of one command that is kept, in bytes. The rest is read and dropped.
pub const AGENT_OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Reports sent and not yet acknowledged. Further ones wait.
pub const AGENT_REPORTS_IN_FLIGHT_MAX: usize = 32;
/// Output of those reports, in bytes. A single one may exceed it.
pub const AGENT_OUTPUT_BYTES_IN_FLIGHT_MAX: u64 = 1024 * 1024;
/// Connections that may be lost over one result before it is sent without its output.
pub const AGENT_RESULT_LOSSES_MAX: u32 = 3;
/// Answers kept without a connection. The oldest is dropped, since the server sends its key again.
pub const AGENT_ANSWERS_WAITING_MAX: usize = 256;
/// Keys of past tasks that an agent remembers. The oldest finished one is forgotten first. Age does
/// not count: a stepping wall clock must not let a book run twice.
pub const AGENT_KEYS_MAX: usize = 100_000;
/// Size in bytes at which the agent's journal is compacted, if it is also twice its live content.
pub const AGENT_JOURNAL_BYTES_MIN: u64 = 1024 * 1024;
/// Allow file, in bytes. A longer one is refused.
pub const AGENT_ALLOW_BYTES_MAX: u64 = 1024 * 1024;
/// Entries of the allow file. More are refused.
pub const AGENT_ALLOW_ENTRIES_MAX: usize = 4_096;
/// Variables in the environment of one entry of the allow file. More are refused.
pub const AGENT_ALLOW_ENV_MAX: usize = 64;
/// Default time limit of a command, in seconds.
pub const AGENT_RUN_S: u64 = 600;
/// Longest time limit of an allow-file entry, in seconds.
pub const AGENT_RUN_S_MAX: u64 = 30 * 86_400;
/// Milliseconds between SIGTERM and SIGKILL to a command.
pub const AGENT_KILL_MS: u64 = 2_000;
/// The same when its task is cancelled, in which nothing else waits for its end.
pub const AGENT_CANCEL_MS: u64 = 5_000;
/// Milliseconds after which a stopping agent ends in any case: longer than both signals to a
/// command take.
pub const AGENT_STOP_MS_MAX: u64 = 10_000;
/// Longest interval between two scans of a command's processes, in milliseconds. They are written
/// down, so that the next agent can end them if this one is killed.
pub const AGENT_PROCESS_LOOK_MS_MAX: u64 = 3_200;
/// Seconds for a connection attempt, and then for the server's welcome.
pub const AGENT_CONNECT_S_MAX: u64 = 10;
/// Milliseconds before the first reconnect. Doubled each time.
pub const AGENT_RETRY_MS_MIN: u64 = 1_000;
/// Longest wait between two reconnects, in milliseconds.
pub const AGENT_RETRY_MS_MAX: u64 = 15_000;
/// Milliseconds before a reconnect after the server ended an accepted connection, for instance
/// because another agent has the same id. Doubled each time.
pub const AGENT_EVICTED_MS_MIN: u64 = 5_000;
/// Longest such wait, in milliseconds.
pub const AGENT_EVICTED_MS_MAX: u64 = 60_000;
/// Seconds after which an accepted connection counts as settled, and the wait starts over.
pub const AGENT_SETTLED_S: u64 = 300;
/// Heartbeat intervals without a byte from the server after which the agent reconnects.
pub const AGENT_SILENT_INTERVALS: u64 = 3;
/// Seconds between two readings of the host's name and addresses.
pub const AGENT_LOOK_S: u64 = 60;
/// Bytes that the server has not taken. Beyond, the agent drops the connection.
pub const AGENT_UNREAD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes that an agent reads from its server in a turn. The rest waits for the next turn.
pub const AGENT_READ_BYTES_PER_TURN_MAX: usize = 1024 * 1024;

/// Descriptors that the load generator's hosts may not use: its poll, pipes, `/proc` and HTTP need
/// them.
pub const BENCH_DESCRIPTORS_RESERVED: u64 = 64;
/// Bytes of one host that the server has not taken. Beyond, a heartbeat is not sent and counts as
/// an error.
pub const BENCH_UNSENT_BYTES_MAX: usize = 64 * 1024;
/// Heartbeats sent before the load generator reads again.
pub const BENCH_SENDS_PER_TURN_MAX: usize = 64;
/// Sockets and datagrams read before the load generator sends again.
pub const BENCH_EVENTS_PER_TURN_MAX: usize = 32;
/// Connections closed before the load generator reads again.
pub const BENCH_CLOSES_PER_TURN_MAX: usize = 8;
/// Seconds for which the load generator waits for a connection, and at the end for missing replies.
pub const BENCH_WAIT_S_MAX: u64 = 10;
/// Part of a file in `/proc` that is read, in bytes.
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
        STORE_PENDING_OPS_MAX >= BATCH_OPS_MAX,
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
