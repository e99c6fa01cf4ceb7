//! Counts what the runs have come upon, so that a simulation which has stopped to simulate something is noticed.

use std::fmt;

macro_rules! counts {
    ($($name:ident $share:literal $what:literal;)*) => {
        /// Something that can happen.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Count {
            $(#[doc = $what] $name,)*
        }

        /// All of them: how often in a thousand seeds each must have happened at least, and what it is.
        pub(crate) const ALL: &[(Count, u64, &str)] = &[$((Count::$name, $share, $what),)*];
    };
}

counts! {
    Requests 1 "requests that peers have begun";
    RepeatedByPeers 1 "requests that came to a Router again";
    Registers 1 "registrations that peers have begun";
    Looks 1 "times at which the actors were found to agree";
    DatagramsLost 1 "datagrams that were lost";
    DatagramsDoubled 1 "datagrams that came twice";
    IcmpErrors 1 "errors that the network has told of datagrams";
    Dials 1 "connections that the proxy has dialled";
    DialsRefused 1 "of them, refused";
    ConnectionsCut 1 "connections that have ended";
    NetworkFaults 1 "faults of the network";
    RouterPanics 1 "Routers that have panicked";
    RegistrarPanics 1 "Registrars that have panicked";
    JournalPanics 1 "Journals that have panicked";
    WrittenAtOnce 1 "changes that the Registrar has written itself";
    Restored 1 "bindings that have come back from the disk";
    Stalls 1 "Routers that were kept from working";
    MailLost 1 "mail that was lost with its actor";
    Restarts 1 "restarts of the process";
    Drains 1 "of them, with draining before";
    ToBindings 1 "branches to bindings";
    ToServers 1 "branches of searches";
    Direct 1 "branches to the one place that a request names";
    ByPath 1 "of them, by a path";
    Forks 1 "requests with a second branch";
    LaterGroups 1 "branches of later groups: lower q, or the rest of a search";
    FallenBack 1 "requests too long for a datagram that went by one after all";
    Unanswered 1 "requests that nobody answers, forwarded";
    Repeated 1 "requests that a Router has repeated";
    BranchesFailed 1 "branches that could not be reached";
    Learned 1 "users whose UC server was learned";
    FlowsFailed 1 "UC servers found silent";
    Trying 1 "100s of the proxy's own";
    Ringing 1 "provisional responses passed on";
    CallsAccepted 1 "INVITEs accepted";
    FurtherAccepted 1 "second 2xx to an INVITE";
    AcceptedThoughCancelled 1 "2xx to an INVITE that was cancelled";
    Accepted 1 "other requests accepted";
    RefusalsPassedOn 1 "refusals passed on";
    ChallengesGathered 1 "of them, with the challenges of several";
    UnavailableHidden 1 "503s of others that went on as 500";
    Cramped 1 "searches without room for all";
    Unregistered 1 "requests that the Registrar's failure has left without an answer of its own";
    TimedOut 1 "INVITEs that nobody has answered";
    Unreachable 1 "requests whose targets could not be reached";
    Silence 1 "requests that ended in silence";
    LostWithRouter 1 "requests that were lost with their Router";
    Refused 1 "requests refused without a transaction";
    Overloaded 1 "of them, for overload";
    ShutOut 1 "of them, because the process is about to end";
    DroppedForRate 1 "requests dropped for the rate of their sender";
    DroppedForBan 1 "requests dropped because their sender is banned";
    Bans 1 "hosts banned for guessing passwords";
    FinalsRepeated 1 "final responses to INVITE that a Router has repeated";
    Acknowledged 1 "refusals that a Router has acknowledged";
    CancelsOfPeers 1 "INVITEs that peers have cancelled";
    Cancels 1 "branches that a Router has cancelled";
    CancelsReached 1 "CANCELs that reached their INVITE";
    TimerC 1 "branches cancelled by Timer C";
    CancelsOfOthers 1 "CANCELs of another's INVITE";
    StrayCancels 1 "CANCELs of what there never was";
    Dialogs 1 "ends of dialogs";
    InDialog 1 "requests in dialogs";
    InDialogOfBefore 1 "of them, in dialogs that are older than the process";
    Outlived 1 "of these, such as reached the other end";
    InOrder 1 "requests in dialogs that went from one connection to another in order";
    BenotifiesReached 1 "BENOTIFYs that reached somebody";
    Loops 1 "requests that a peer has sent back";
    OddRequests 1 "requests that deserve a refusal";
    Replays 1 "credentials sent a second time";
    Impostors 1 "wrong passwords refused";
    Forged 1 "forged responses";
}

/// How often each has happened.
#[derive(Clone, Debug)]
pub(crate) struct Coverage([u64; ALL.len()]);

impl Default for Coverage {
    fn default() -> Self {
        Self([0; ALL.len()])
    }
}

impl Coverage {
    pub(crate) const fn add(&mut self, count: Count) {
        self.0[count as usize] += 1;
    }

    pub(crate) const fn of(&self, count: Count) -> u64 {
        self.0[count as usize]
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own += other);
    }

    /// What has happened too seldom for so many seeds.
    pub(crate) fn gaps(&self, seeds: u64) -> Vec<String> {
        let is_short = |(count, share, _): &&(Count, u64, &str)| self.of(*count) < share * seeds / 1000;
        let text = |(count, share, what): &(Count, u64, &str)| {
            format!("{what}: {} instead of {}", self.of(*count), share * seeds / 1000)
        };
        ALL.iter().filter(is_short).map(text).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ALL.iter().try_for_each(|(count, _, what)| writeln!(f, "{:>9} {what}", self.of(*count)))
    }
}
