//! Decisions of the scripted UC server: who is registered, and where a message goes. No sockets here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::via::{flow_of, forwarding_branch, stamp_source};
use super::{Flow, LogOn, Plan, Ports, Transport};
use crate::common::digest::{Challenge, Credentials, directive, proves};
use crate::common::sip::{Sip, host_port_of, parameter, uri_of, user_of};

/// Begins the branch of the server's own requests.
const OWN: &str = "z9hG4bK-own-";
/// The one nonce with which the server challenges its users; a test run is short.
const NONCE: &str = "5f3e1c0b7a";

/// One message on its way out.
pub(super) struct Output {
    pub(super) flow: Flow,
    pub(super) message: Sip,
}

/// A user's registration: the newest contact and the flow that it came over.
struct Registration {
    contact: String,
    flow: Flow,
    /// Whether the proxy knows of it, where it is to know.
    announced: bool,
}

pub(super) struct Routing {
    domain: &'static str,
    account: &'static str,
    password: &'static str,
    log_on: LogOn,
    ports: Ports,
    /// The flow on which the server has logged on.
    upstream: Flow,
    /// Further connections that the proxy has made.
    from_proxy: HashSet<Flow>,
    proxy: IpAddr,
    users: BTreeMap<String, Registration>,
    logged_on: bool,
    /// Own REGISTERs by branch, with the user that each is for.
    registering: HashMap<String, (String, Sip)>,
    /// Requests forwarded to the proxy by branch: it may challenge them.
    forwarded: HashMap<String, Sip>,
    sequence: u32,
    /// Answers to users who have registered, until they may know it.
    held: Option<Vec<Output>>,
    /// What they have sent before they could know it.
    early: Vec<(Flow, Sip)>,
}

impl Routing {
    pub(super) fn new(plan: &Plan, ports: Ports, upstream: Flow) -> Self {
        Self {
            domain: plan.domain,
            account: plan.account,
            password: plan.password,
            log_on: plan.log_on,
            ports,
            upstream,
            from_proxy: HashSet::new(),
            proxy: plan.proxy.1.ip(),
            users: BTreeMap::new(),
            logged_on: false,
            registering: HashMap::new(),
            forwarded: HashMap::new(),
            sequence: 0,
            held: Some(Vec::new()),
            early: Vec::new(),
        }
    }

    pub(super) fn is_logged_on(&self) -> bool {
        self.logged_on
    }

    /// Users whose registration is complete.
    pub(super) fn registered(&self) -> Vec<String> {
        let complete = |registration: &Registration| registration.announced || self.log_on == LogOn::Server;
        self.users.iter().filter(|(_, known)| complete(known)).map(|(user, _)| user.clone()).collect()
    }

    /// Registers the server itself.
    pub(super) fn log_on(&mut self) -> Vec<Output> {
        self.announce(self.account)
    }

    /// Somebody has connected: the proxy is known by its address.
    pub(super) fn connected(&mut self, flow: Flow, peer: IpAddr) {
        if self.proxy == peer {
            self.from_proxy.insert(flow);
        }
    }

    /// A connection has ended: whoever registered over it is not reachable.
    pub(super) fn forget(&mut self, flow: Flow) {
        self.from_proxy.remove(&flow);
        self.users.retain(|_, registration| registration.flow != flow);
    }

    /// Answers the REGISTERs that were held back, and later ones at once.
    pub(super) fn confirm(&mut self) -> Vec<Output> {
        let mut outputs = self.held.take().unwrap_or_default();
        for (flow, request) in std::mem::take(&mut self.early) {
            outputs.extend(self.handle_request(flow, request));
        }
        outputs
    }

    pub(super) fn handle(&mut self, flow: Flow, message: Sip) -> Vec<Output> {
        if message.is_request() { self.handle_request(flow, message) } else { self.handle_response(message) }
    }

    fn handle_request(&mut self, flow: Flow, mut request: Sip) -> Vec<Output> {
        stamp_source(&mut request, flow);
        let upstream = self.is_upstream(flow);
        if !upstream && request.method() == "REGISTER" {
            return self.register(flow, &request);
        }
        if !upstream && self.held.is_some() {
            self.early.push((flow, request));
            return Vec::new();
        }
        // The two Record-Route values of a server between two transports come back as two Routes.
        while request.header("Route").is_some_and(|route| self.is_own(uri_of(route))) {
            request.pop_front("Route");
        }
        match self.destination(upstream, flow, &mut request) {
            Ok(to) => vec![self.forward(flow, to, request)],
            Err(_) if request.method() == "ACK" => Vec::new(),
            Err((status, reason)) => vec![refuse(flow, &request, status, reason)],
        }
    }

    /// Where a request goes next; rewrites the Request-URI for a user of this server.
    fn destination(
        &self,
        upstream: bool,
        flow: Flow,
        request: &mut Sip,
    ) -> Result<Flow, (u16, &'static str)> {
        if request.header("Max-Forwards") == Some("0") {
            return Err((483, "Too Many Hops"));
        }
        if !upstream && !self.users.values().any(|known| known.flow == flow) {
            return Err((403, "Register First"));
        }
        if request.header("Route").is_none() {
            let uri = request.uri().to_owned();
            let here = host_port_of(&uri) == self.domain || self.is_own(&uri);
            // In a dialog the Request-URI is a contact, and not always the one that was registered: a client may name
            // the port of its connection.
            let user = if here {
                self.users.get(user_of(&uri))
            } else {
                self.users.values().find(|known| is_same_client(&known.contact, &uri))
            };
            if let Some(user) = user {
                if here {
                    request.start_line = format!("{} {} SIP/2.0", request.method(), user.contact);
                }
                return Ok(user.flow);
            }
        }
        if upstream { Err((404, "Not Found")) } else { Ok(self.upstream) }
    }

    fn forward(&mut self, from: Flow, to: Flow, mut request: Sip) -> Output {
        let hops = request.header("Max-Forwards").and_then(|hops| hops.parse::<u32>().ok()).unwrap_or(70);
        request = request.set("Max-Forwards", (hops - 1).to_string());
        if matches!(request.method(), "INVITE" | "SUBSCRIBE" | "NOTIFY" | "REFER") {
            let (inward, outward) = (from.transport(), to.transport());
            request.push_front("Record-Route", self.own_uri(inward));
            if inward != outward {
                request.push_front("Record-Route", self.own_uri(outward));
            }
        }
        let branch = forwarding_branch(from, &request);
        if self.is_upstream(to) && !matches!(request.method(), "ACK" | "CANCEL") {
            self.forwarded.insert(branch.clone(), request.clone());
        }
        request.push_front("Via", self.via(to.transport(), &branch));
        Output { flow: to, message: request }
    }

    fn handle_response(&mut self, mut response: Sip) -> Vec<Output> {
        let Some(via) = response.pop_front("Via") else { return Vec::new() };
        let branch = parameter(&via, "branch").unwrap_or_default().to_owned();
        if branch.starts_with(OWN) {
            return self.handle_own_response(&branch, &response);
        }
        if response.status() >= 200
            && let Some(request) = self.forwarded.remove(&branch)
            && response.status() == 407
        {
            return self.answer_challenge(&branch, &request, &response);
        }
        let back = flow_of(&branch);
        back.map(|flow| Output { flow, message: response }).into_iter().collect()
    }

    /// The proxy's challenge is this server's to answer, not its user's.
    fn answer_challenge(&mut self, branch: &str, request: &Sip, response: &Sip) -> Vec<Output> {
        let proxy = self.upstream;
        let mut outputs = Vec::new();
        if request.method() == "INVITE" {
            let mut acknowledgement = crate::common::agent::acknowledgement(request, response);
            acknowledgement = acknowledgement.set("Via", self.via(proxy.transport(), branch));
            outputs.push(Output { flow: proxy, message: acknowledgement });
        }
        let credentials = Credentials { user: self.account, password: self.password };
        let answer = Challenge::first(response).answer(request.method(), request.uri(), credentials, 1);
        let mut retry = request.clone().with("Proxy-Authorization", answer);
        retry.push_front("Via", self.via(proxy.transport(), &format!("{branch}-2")));
        outputs.push(Output { flow: proxy, message: retry });
        outputs
    }

    /// Registers `user` with the proxy, with this server as the contact.
    fn announce(&mut self, user: &str) -> Vec<Output> {
        let proxy = self.upstream;
        self.sequence += 1;
        let (transport, address) = (proxy.transport(), self.ports.at(proxy.transport()));
        let identity = format!("<sip:{user}@{}>", self.domain);
        let request = Sip::request("REGISTER", &format!("sip:{}", self.domain))
            .with("Max-Forwards", "70")
            .with("From", format!("{identity};tag=r{}", self.sequence))
            .with("To", identity)
            .with("Call-ID", format!("{user}@{}", address.ip()))
            .with("CSeq", format!("{} REGISTER", self.sequence))
            .with("Contact", format!("<sip:{user}@{address};transport={}>", transport.parameter()))
            .with("Expires", "600");
        vec![self.send_own(user, proxy, request)]
    }

    fn send_own(&mut self, user: &str, proxy: Flow, request: Sip) -> Output {
        let branch = format!("{OWN}{}", self.sequence);
        self.registering.insert(branch.clone(), (user.to_owned(), request.clone()));
        let mut message = request;
        message.push_front("Via", self.via(proxy.transport(), &branch));
        Output { flow: proxy, message }
    }

    fn handle_own_response(&mut self, branch: &str, response: &Sip) -> Vec<Output> {
        let (proxy, status) = (self.upstream, response.status());
        if status < 200 {
            return Vec::new();
        }
        let Some((user, request)) = self.registering.remove(branch) else { return Vec::new() };
        if status == 401 && request.header("Authorization").is_none() {
            let credentials = Credentials { user: self.account, password: self.password };
            let answer = Challenge::first(response).answer("REGISTER", request.uri(), credentials, 1);
            self.sequence += 1;
            let request =
                request.set("CSeq", format!("{} REGISTER", self.sequence)).with("Authorization", answer);
            return vec![self.send_own(&user, proxy, request)];
        }
        assert_eq!(status, 200, "{} registers {user}:\n{response}", self.account);
        match self.users.get_mut(&user) {
            Some(registration) => registration.announced = true,
            None => self.logged_on = true,
        }
        Vec::new()
    }

    /// A user's REGISTER: the password of `alice` is `pw-alice`.
    fn register(&mut self, flow: Flow, request: &Sip) -> Vec<Output> {
        let user = user_of(uri_of(request.need("To"))).to_owned();
        let proven = request.all("Authorization").into_iter().any(|value| {
            directive(value, "nonce").as_deref() == Some(NONCE)
                && directive(value, "username").as_deref() == Some(&user)
                && proves(value, "REGISTER", &format!("pw-{user}"))
        });
        if !proven {
            let challenge =
                format!("Digest realm=\"{}\", nonce=\"{NONCE}\", qop=\"auth\", algorithm=MD5", self.domain);
            let mut output = refuse(flow, request, 401, "Unauthorized");
            output.message = output.message.with("WWW-Authenticate", challenge);
            return vec![output];
        }
        let mut response = Sip::response(request, 200, "OK", "registrar");
        let contact = request.values("Contact").into_iter().find(|contact| expires(request, contact) > 0);
        let mut outputs = Vec::new();
        match contact {
            Some(contact) => {
                let registration =
                    Registration { contact: uri_of(contact).to_owned(), flow, announced: false };
                response = response.with(
                    "Contact",
                    format!("<{}>;expires={}", registration.contact, expires(request, contact)),
                );
                self.users.insert(user.clone(), registration);
                if self.log_on == LogOn::Users {
                    outputs = self.announce(&user);
                }
            }
            None => {
                self.users.remove(&user);
            }
        }
        let response = Output { flow, message: response };
        match &mut self.held {
            Some(held) => held.push(response),
            None => outputs.push(response),
        }
        outputs
    }

    fn is_upstream(&self, flow: Flow) -> bool {
        self.upstream == flow || self.from_proxy.contains(&flow)
    }

    /// Whether a URI has the address of one of this server's ports.
    fn is_own(&self, uri: &str) -> bool {
        let address = host_port_of(uri).parse::<SocketAddr>();
        address.is_ok_and(|address| [self.ports.udp, self.ports.tcp, self.ports.tls].contains(&address))
    }

    fn own_uri(&self, transport: Transport) -> String {
        format!("<sip:{};transport={};lr>", self.ports.at(transport), transport.parameter())
    }

    fn via(&self, transport: Transport, branch: &str) -> String {
        let rport = if transport == Transport::Udp { ";rport" } else { "" };
        format!("SIP/2.0/{} {};branch={branch}{rport}", transport.via(), self.ports.at(transport))
    }
}

/// Whether two contacts are the same client's: each has a port of its own, and a user part of its own.
fn is_same_client(one: &str, other: &str) -> bool {
    host_port_of(one) == host_port_of(other) || user_of(one) == user_of(other)
}

fn refuse(flow: Flow, request: &Sip, status: u16, reason: &str) -> Output {
    Output { flow, message: Sip::response(request, status, reason, "uc") }
}

fn expires(request: &Sip, contact: &str) -> u32 {
    let value = parameter(contact, "expires").or_else(|| request.header("Expires"));
    value.and_then(|value| value.parse().ok()).unwrap_or(600)
}
