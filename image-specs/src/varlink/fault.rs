//! Errors as they are sent: those of `org.varlink.service`, and any other. Pure.

use serde_json::{Map, Value};

/// An error in place of a reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Interface and error, with a dot between them.
    pub name: String,
    /// What is told of it.
    pub parameters: Map<String, Value>,
}

impl Fault {
    /// The error `name`, of which nothing is told yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            parameters: Map::new(),
        }
    }

    /// The same with one thing more that is told.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.parameters.insert(name.to_owned(), value.into());
        self
    }

    /// A description was asked for of an interface that is not there.
    pub fn interface_not_found(interface: &str) -> Self {
        Self::new("org.varlink.service.InterfaceNotFound").with("interface", interface)
    }

    /// No such method; as systemd has it, also of an interface that is not there.
    pub fn method_not_found(method: &str) -> Self {
        Self::new("org.varlink.service.MethodNotFound").with("method", method)
    }

    /// The method is described, but not built.
    pub fn method_not_implemented(method: &str) -> Self {
        Self::new("org.varlink.service.MethodNotImplemented").with("method", method)
    }

    /// A parameter is missing, unknown, or has a value that it cannot have.
    pub fn invalid_parameter(parameter: &str) -> Self {
        Self::new("org.varlink.service.InvalidParameter").with("parameter", parameter)
    }

    /// The caller may not do this.
    pub fn permission_denied() -> Self {
        Self::new("org.varlink.service.PermissionDenied")
    }

    /// The method answers several times, and the call does not say `more`.
    pub fn expected_more() -> Self {
        Self::new("org.varlink.service.ExpectedMore")
    }
}
