//! Interfaces and their methods; `org.varlink.service`, which every service has.

use image_specs::varlink::{Call, Fault, Map, Mode, Parameters, Value};
use serde_json::json;

use super::connection::Answers;

/// What a method answers in the end.
pub(crate) type Answer = Result<Map<String, Value>, Fault>;

const SERVICE: &str = "org.varlink.service";
const SERVICE_TEXT: &str = include_str!("org.varlink.service.varlink");
const SYSTEM: &str = "io.systemd";
const SYSTEM_TEXT: &str = include_str!("io.systemd.varlink");

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A process of this user.
    User(u32),
    /// Whoever started this process, over its standard input.
    Starter,
}

impl Peer {
    /// Whether it may have the process do what the process itself may.
    pub(crate) fn is_trusted(self) -> bool {
        match self {
            Self::User(user) => user == 0 || user == rustix::process::geteuid().as_raw(),
            Self::Starter => true,
        }
    }
}

/// A method of an interface.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Method {
    /// Its name, without the interface's.
    pub(crate) name: &'static str,
    /// Whether it answers several times, and must be called so.
    pub(crate) needs_more: bool,
}

/// A call of a method that exists.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its name, without the interface's.
    pub(crate) method: String,
    /// What is passed to it.
    pub(crate) parameters: Parameters,
    /// Who calls.
    pub(crate) peer: Peer,
}

/// An interface that is served.
pub(crate) trait Interface: Sync {
    /// Its name, as `io.systemd.Repart`.
    fn name(&self) -> &'static str;

    /// Its description in the interface definition language.
    fn description(&self) -> &'static str;

    /// What it answers to: every method of the description.
    fn methods(&self) -> &'static [Method];

    /// Carries out a call of one of its methods.
    fn call(&self, request: Request, answers: &mut Answers<'_>) -> Answer;
}

/// What a program serves.
pub(crate) struct Service {
    /// The tool, for [`Service::info`].
    pub(crate) product: &'static str,
    /// Its interfaces, besides those that every service has.
    pub(crate) interfaces: Vec<Box<dyn Interface>>,
}

impl Service {
    /// Answers one call, and tells what was wrong with it otherwise.
    pub(crate) fn answer(&self, mut call: Call, peer: Peer, answers: &mut Answers<'_>) -> Answer {
        if call.upgrade {
            return Err(Fault::invalid_parameter("upgrade"));
        }
        let parameters = call.take_parameters();
        let unknown = || Fault::method_not_found(&call.method);
        let (interface, method) = call.split().ok_or_else(unknown)?;
        if interface == SERVICE {
            return self
                .describe(method, parameters)
                .unwrap_or_else(|| Err(unknown()));
        }
        let mut interfaces = self.interfaces.iter();
        let served = interfaces.find(|one| one.name() == interface);
        let served = served.ok_or_else(unknown)?;
        let mut methods = served.methods().iter();
        let known = methods.find(|one| one.name == method);
        if known.ok_or_else(unknown)?.needs_more && call.mode != Mode::More {
            return Err(Fault::expected_more());
        }
        let request = Request {
            method: method.to_owned(),
            parameters,
            peer,
        };
        served.call(request, answers)
    }

    /// The methods of `org.varlink.service`.
    fn describe(&self, method: &str, mut parameters: Parameters) -> Option<Answer> {
        match method {
            "GetInfo" => Some(parameters.finish().map(|()| self.info())),
            "GetInterfaceDescription" => Some(parameters.text("interface").and_then(|name| {
                parameters.finish()?;
                let name = name.ok_or_else(|| Fault::invalid_parameter("interface"))?;
                let text = self.description(&name);
                let text = text.ok_or_else(|| Fault::interface_not_found(&name))?;
                Ok(Map::from_iter([("description".to_owned(), text.into())]))
            })),
            _ => None,
        }
    }

    fn info(&self) -> Map<String, Value> {
        let mut names: Vec<&str> = self.interfaces.iter().map(|one| one.name()).collect();
        names.extend([SERVICE, SYSTEM]);
        names.sort_unstable();
        let values = [
            ("vendor", json!("ddi")),
            ("product", json!(self.product)),
            ("version", json!(env!("CARGO_PKG_VERSION"))),
            ("url", json!(env!("CARGO_PKG_REPOSITORY"))),
            ("interfaces", json!(names)),
        ];
        values
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn description(&self, name: &str) -> Option<&'static str> {
        match name {
            SERVICE => Some(SERVICE_TEXT),
            SYSTEM => Some(SYSTEM_TEXT),
            _ => {
                let mut interfaces = self.interfaces.iter();
                interfaces
                    .find(|one| one.name() == name)
                    .map(|one| one.description())
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An interface that says what it hears.
    struct Echo;

    impl Interface for Echo {
        fn name(&self) -> &'static str {
            "org.example.Echo"
        }

        fn description(&self) -> &'static str {
            "interface org.example.Echo\n"
        }

        fn methods(&self) -> &'static [Method] {
            &[
                Method {
                    name: "Say",
                    needs_more: false,
                },
                Method {
                    name: "Count",
                    needs_more: true,
                },
            ]
        }

        fn call(&self, mut request: Request, answers: &mut Answers<'_>) -> Answer {
            let word = request.parameters.text("word")?.unwrap_or_default();
            request.parameters.finish()?;
            let said = Map::from_iter([("word".to_owned(), word.into())]);
            answers.part(said.clone());
            Ok(said)
        }
    }

    pub(crate) fn service() -> Service {
        Service {
            product: "test",
            interfaces: vec![Box::new(Echo)],
        }
    }

    fn ask(text: &str) -> String {
        let mut out = Vec::new();
        let service = service();
        let mut answers = Answers::new(&mut out);
        let call = Call::parse(text.as_bytes()).unwrap();
        answers.answer(&service, call, Peer::Starter);
        String::from_utf8(out).unwrap().replace('\0', "\n")
    }

    #[test]
    fn calls_are_answered() {
        let fault = |name: &str, what: &str, value: &str| {
            format!(
                "{{\"error\":\"org.varlink.service.{name}\",\"parameters\":{{\"{what}\":\"{value}\"}}}}\n"
            )
        };
        let said = "{\"parameters\":{\"word\":\"x\"}}\n".to_owned();
        let part = "{\"parameters\":{\"word\":\"x\"},\"continues\":true}\n";
        let say = |rest: &str| {
            format!(r#"{{"method":"org.example.Echo.Say","parameters":{{"word":"x"}}{rest}}}"#)
        };
        for (call, wanted) in [
            (say(""), said.clone()),
            (say(r#","more":true"#), format!("{part}{said}")),
            (say(r#","oneway":true"#), String::new()),
            (say(r#","upgrade":true"#), fault("InvalidParameter", "parameter", "upgrade")),
            (
                r#"{"method":"org.example.Echo.Say","parameters":{"words":"x"}}"#.to_owned(),
                fault("InvalidParameter", "parameter", "words"),
            ),
            (
                r#"{"method":"org.example.Echo.Count","more":true}"#.to_owned(),
                "{\"parameters\":{\"word\":\"\"},\"continues\":true}\n{\"parameters\":{\"word\":\"\"}}\n"
                    .to_owned(),
            ),
            (
                r#"{"method":"org.example.Echo.Count"}"#.to_owned(),
                "{\"error\":\"org.varlink.service.ExpectedMore\",\"parameters\":{}}\n".to_owned(),
            ),
            (
                r#"{"method":"org.example.Echo.Nothing"}"#.to_owned(),
                fault("MethodNotFound", "method", "org.example.Echo.Nothing"),
            ),
            (r#"{"method":"a.B"}"#.to_owned(), fault("MethodNotFound", "method", "a.B")),
            (r#"{"method":"nodots"}"#.to_owned(), fault("MethodNotFound", "method", "nodots")),
            (r#"{"method":""}"#.to_owned(), fault("MethodNotFound", "method", "")),
            (
                r#"{"method":"org.varlink.service.GetInfo","parameters":{"x":1}}"#.to_owned(),
                fault("InvalidParameter", "parameter", "x"),
            ),
            (
                r#"{"method":"org.varlink.service.GetInterfaceDescription"}"#.to_owned(),
                fault("InvalidParameter", "parameter", "interface"),
            ),
            (
                r#"{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"x.y"}}"#
                    .to_owned(),
                fault("InterfaceNotFound", "interface", "x.y"),
            ),
        ] {
            assert_eq!(ask(&call), wanted, "{call}");
        }
    }

    #[test]
    fn every_interface_is_described() {
        let service = service();
        let info = service.info();
        let names = info["interfaces"].as_array().unwrap();
        assert_eq!(names.len(), 3);
        for name in names {
            let name = name.as_str().unwrap();
            let text = service.description(name).unwrap();
            let heading = format!("interface {name}");
            assert!(text.lines().any(|line| line == heading), "{name}");
        }
    }
}
