//! `io.systemd.Repart`: repartitioning as a Varlink service.
//!
//! `systemd-repart` serves it when it is started with a socket: by `ddi-repart-varlink.socket`, or by
//! `varlinkctl call /usr/bin/systemd-repart …`.

mod candidates;
mod faults;
mod run;

use image_specs::varlink::Fault;

use crate::exit::{Exit, Failure};
use crate::notify::Notifier;
use crate::varlink::activation::{Invocation, invocation};
use crate::varlink::connection::Answers;
use crate::varlink::server::{Limits, serve};
use crate::varlink::service::{Answer, Interface, Method, Request, Service};

const NAME: &str = "io.systemd.Repart";

/// Whether the process was started to serve, and by which sockets.
pub(super) fn asked() -> Result<Option<Invocation>, Failure> {
    let variable = |name: &str| std::env::var_os(name);
    Ok(invocation(&variable, std::process::id())?)
}

/// Serves until nobody is connected any more.
pub(super) fn run(invocation: Invocation) -> Result<Exit, Failure> {
    let service = Service {
        product: "ddi repart",
        interfaces: vec![Box::new(Repart)],
    };
    let entry = invocation.enter()?;
    Notifier::from_environment().ready("serving io.systemd.Repart");
    serve(&service, entry, Limits::default())?;
    Ok(Exit::Ok)
}

/// The interface.
struct Repart;

impl Interface for Repart {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> &'static str {
        include_str!("io.systemd.Repart.varlink")
    }

    fn methods(&self) -> &'static [Method] {
        &[
            Method {
                name: "Run",
                needs_more: false,
            },
            Method {
                name: "ListCandidateDevices",
                needs_more: true,
            },
        ]
    }

    fn call(&self, request: Request, answers: &mut Answers<'_>) -> Answer {
        match request.method.as_str() {
            "Run" => run::run(request, answers),
            "ListCandidateDevices" => candidates::list(request, answers),
            other => Err(Fault::method_not_implemented(&format!("{NAME}.{other}"))),
        }
    }
}
