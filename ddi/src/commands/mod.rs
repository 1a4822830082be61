//! One file a verb; its doc comment is its help.

mod dissect;
mod documents;
mod gpt_auto;
mod growfs;
mod integrity;
mod makefs;
mod pick;
pub(crate) mod repart;
pub(crate) mod tpm2_args;
mod validatefs;
mod verity;
mod volumes;

use crate::verb::Verb;

/// Every verb, and the tools that it answers as; a new one is a line here.
pub(crate) const VERBS: &[Verb] = &[
    Verb::new::<repart::args::RepartArgs>("repart")
        .also("systemd-repart", "systemd-repart(1), repart.d(5)"),
    Verb::new::<dissect::DissectArgs>("dissect").also("systemd-dissect", "systemd-dissect(1)"),
    Verb::tool_only::<dissect::kernel::mount_ddi::MountDdiArgs>("mount.ddi", "mount(8)"),
    Verb::new::<pick::PickArgs>("pick").also("systemd-vpick", "systemd-vpick(1), systemd.v(7)"),
    Verb::new::<gpt_auto::GptAutoArgs>("gpt-auto-generator").also(
        "systemd-gpt-auto-generator",
        "systemd-gpt-auto-generator(8)",
    ),
    Verb::new::<growfs::GrowfsArgs>("growfs").also("systemd-growfs", "systemd-growfs@.service(8)"),
    Verb::new::<makefs::MakefsArgs>("makefs").also("systemd-makefs", "systemd-makefs@.service(8)"),
    Verb::new::<validatefs::ValidatefsArgs>("validatefs")
        .also("systemd-validatefs", "systemd-validatefs@.service(8)"),
    Verb::new::<verity::Args>("verity").also("veritysetup", "veritysetup(8)"),
    Verb::new::<integrity::IntegrityArgs>("integrity").also("integritysetup", "integritysetup(8)"),
    Verb::new::<volumes::integrity::IntegrityVolumeArgs>("integrity-volume").also(
        "systemd-integritysetup",
        "systemd-integritysetup@.service(8), integritytab(5)",
    ),
    Verb::new::<volumes::verity::VerityVolumeArgs>("verity-volume").also(
        "systemd-veritysetup",
        "systemd-veritysetup@.service(8), veritytab(5)",
    ),
    Verb::new::<volumes::generator::IntegrityGeneratorArgs>("integritysetup-generator").also(
        "systemd-integritysetup-generator",
        "systemd-integritysetup-generator(8), integritytab(5)",
    ),
    Verb::new::<volumes::generator::VerityGeneratorArgs>("veritysetup-generator").also(
        "systemd-veritysetup-generator",
        "systemd-veritysetup-generator(8), veritytab(5)",
    ),
    Verb::new::<documents::DocumentsArgs>("documents"),
];

/// Tools that it will answer as, but does not yet.
pub(crate) const NOT_BUILT: &[&str] = &[
    "systemd-sysext",
    "systemd-confext",
    "systemd-sysupdate",
    "portablectl",
];
