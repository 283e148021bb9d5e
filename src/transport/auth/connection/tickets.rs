//! Logons with Kerberos: accepting a ticket, and finding out whose it is here.

use std::sync::Arc;
use std::time::Instant;

use crate::access;

use super::super::kerberos::{Ticket, TicketError, TicketFault, error_token};
use super::super::negotiate::{Step, TicketLogon};
use super::super::policy::{AuthPolicy, ChannelBindingPolicy, KerberosPolicy};
use super::super::scheme::Scheme;
use super::{Confidentiality, ConnectionAuth, Outcome, Proof};
use crate::transport::channel_binding::ChannelBinding;

impl ConnectionAuth {
    /// Accepts a ticket. What is known of a ticket that is refused is where it came from.
    pub(super) async fn accept(
        &self,
        policy: &AuthPolicy,
        scheme: Scheme,
        logon: TicketLogon,
        begun: Instant,
    ) -> Outcome {
        let refused = || Outcome::Challenge(vec![scheme.challenge()]);
        let Some(kerberos) = &policy.kerberos else { return refused() };
        if policy.users.is_locked_out("", self.source, access::Scheme::Kerberos) {
            return refused();
        }
        let ticket = match self.open(kerberos, &logon).await {
            Ok(ticket) => ticket,
            Err(error) => {
                let reason = error.to_string();
                match error.fault {
                    TicketFault::Malformed => {
                        policy.users.refused_unnamed(self.source, access::Scheme::Kerberos, &reason);
                    }
                    TicketFault::Wrong => {
                        let users = &policy.users;
                        users.failed("", self.source, access::Scheme::Kerberos, &reason).await;
                    }
                    TicketFault::Unbound => policy.users.refused("", self.source, access::Scheme::Kerberos, &reason),
                    TicketFault::Untimely(code) => {
                        policy.users.refused("", self.source, access::Scheme::Kerberos, &reason);
                        let error = error_token(logon.token(), code, kerberos.clock.now());
                        if let Some(error) = error {
                            return Outcome::Challenge(vec![scheme.token(&logon.refusal(error))]);
                        }
                    }
                }
                return refused();
            }
        };
        let principal = ticket.principal.clone();
        let binds = matches!(self.confidentiality, Confidentiality::Tls(_));
        if binds && kerberos.channel_binding == ChannelBindingPolicy::Strict && !ticket.bound {
            let reason = "wrong or missing channel binding";
            policy.users.refused(&principal, self.source, access::Scheme::Kerberos, reason);
            return refused();
        }
        match logon.conclude(ticket) {
            Ok(Step::Continue(answer, handshake)) => self.proceed(scheme, &answer, handshake, begun),
            Ok(Step::Done(ticket)) => self.admit(policy, scheme, ticket).await,
            Ok(Step::Prove(_) | Step::Accept(_)) => refused(),
            Err(reason) => {
                policy.users.refused(&principal, self.source, access::Scheme::Kerberos, &reason.to_string());
                refused()
            }
        }
    }

    /// Opens a ticket on a thread that may block: the acceptor reads the keytab and writes to the replay cache.
    async fn open(&self, policy: &KerberosPolicy, logon: &TicketLogon) -> Result<Ticket, TicketError> {
        let binding = match (&self.confidentiality, policy.channel_binding) {
            (Confidentiality::Tls(binding), ChannelBindingPolicy::Relaxed | ChannelBindingPolicy::Strict) => {
                Some(binding.clone())
            }
            _ => None,
        };
        open(policy, logon, binding).await
    }

    /// Admits the owner of a good ticket, if there is such an account.
    pub(super) async fn admit(&self, policy: &AuthPolicy, scheme: Scheme, ticket: Ticket) -> Outcome {
        let Some(account) = policy.users.principal_account(&ticket.principal).await else {
            let reason = "the ticket is good, but no user has this name";
            policy.users.refused(&ticket.principal, self.source, access::Scheme::Kerberos, reason);
            return Outcome::Challenge(vec![scheme.challenge()]);
        };
        let proof = Proof::of_ticket(ticket.lifetime);
        let token = ticket.answer.map(|answer| scheme.token(&answer));
        self.establish(policy, account, proof, Some(ticket.security), token)
    }
}

/// Opens a ticket on a thread that may block. With a binding, a client that sent another one is refused.
pub(in crate::transport::auth) async fn open(
    policy: &KerberosPolicy,
    logon: &TicketLogon,
    binding: Option<ChannelBinding>,
) -> Result<Ticket, TicketError> {
    let (acceptor, token) = (Arc::clone(&policy.acceptor), logon.token().to_owned());
    let accept = move || {
        let data = binding.as_ref().map(ChannelBinding::application_data);
        acceptor.accept(&token, data)
    };
    let stopping = || TicketError { fault: TicketFault::Malformed, reason: "the server is stopping".to_owned() };
    tokio::task::spawn_blocking(accept).await.unwrap_or_else(|_| Err(stopping()))
}
