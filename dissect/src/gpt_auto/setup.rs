//! The units that unlock and verify volumes, and check file systems before anything is mounted.

use super::Planner;
use super::units::{Folder, escape};

impl Planner<'_> {
    /// Unlocks a volume that must be there. Returns its node.
    pub(super) fn unlock(&mut self, id: &str, what: &str, writable: bool, measure: bool) -> String {
        let service = self.unlock_service(id, what, writable, measure);
        let device = format!("dev-mapper-{}.device", escape(id));
        let files = &mut self.plan.files;
        files.pull_in("cryptsetup.target", "requires", &service);
        files.pull_in(&device, "requires", &service);
        format!("/dev/mapper/{id}")
    }

    /// Unlocks the volume of the initrd's `id`, should it show up encrypted.
    pub(super) fn unlock_later(&mut self, id: &str, what: &str) {
        self.unlock_service(id, what, true, true);
    }

    fn unlock_service(&mut self, id: &str, what: &str, writable: bool, measure: bool) -> String {
        let mut options = Vec::new();
        if !writable {
            options.push("read-only");
        }
        if self.measured() {
            options.push("tpm2-device=auto");
            if measure {
                options.push("tpm2-measure-pcr=yes,tpm2-measure-keyslot-nvpcr=yes");
            }
        }
        let (options, device) = (options.join(","), format!("{}.device", escape(what)));
        let text = format!(
            "[Unit]
Description=Cryptography Setup for %I
Documentation=man:crypttab(5) man:systemd-cryptsetup-generator(8) man:systemd-cryptsetup@.service(8)

DefaultDependencies=no
After=cryptsetup-pre.target systemd-udevd-kernel.socket systemd-udevd.service systemd-tpm2-setup-early.service
Before=blockdev@dev-mapper-%i.target
Wants=blockdev@dev-mapper-%i.target
IgnoreOnIsolate=true
Before=umount.target cryptsetup.target
Conflicts=umount.target
BindsTo={device}
After={device}

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutSec=infinity
KeyringMode=shared
OOMScoreAdjust=500
ImportCredential=cryptsetup.*
ExecStart=/usr/bin/systemd-cryptsetup attach '{id}' '{what}' '' '{options}'
ExecStop=/usr/bin/systemd-cryptsetup detach '{id}'
"
        );
        let service = format!("systemd-cryptsetup@{}.service", escape(id));
        self.plan.files.file(Folder::Late, &*service, &text);
        self.plan.files.pull_in(&device, "wants", &service);
        self.wait_for_ever(id);
        service
    }

    /// Verifies the data of the initrd's `id`, should they show up with a hash tree.
    pub(super) fn verify_later(&mut self, id: &str) {
        let hash = format!("/dev/disk/by-designator/{id}-verity");
        let data = format!("{hash}-data");
        let devices = [&data, &hash].map(|node| format!("{}.device", escape(node)));
        let measure = if self.measured() {
            ",tpm2-measure-nvpcr=yes"
        } else {
            ""
        };
        let both = devices.join(" ");
        let text = format!(
            "[Unit]
Description=Integrity Protection Setup for %I
Documentation=man:veritytab(5) man:systemd-veritysetup-generator(8) man:systemd-veritysetup@.service(8)
DefaultDependencies=no
IgnoreOnIsolate=true
After=veritysetup-pre.target systemd-udevd-kernel.socket systemd-udevd.service
Before=blockdev@dev-mapper-%i.target
Wants=blockdev@dev-mapper-%i.target
Before=veritysetup.target
BindsTo={both}
After={both}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/systemd/systemd-veritysetup attach '{id}' '{data}' '{hash}' '-' 'root-hash-signature=auto{measure}'
ExecStop=/usr/lib/systemd/systemd-veritysetup detach '{id}'
"
        );
        let service = format!("systemd-veritysetup@{id}.service");
        self.plan.files.file(Folder::Late, &*service, &text);
        for device in &devices {
            self.plan.files.pull_in(device, "wants", &service);
        }
        self.wait_for_ever(id);
    }

    /// Checks the file system of the initrd's `id`. Returns the service.
    pub(super) fn check_early(&mut self, id: &str, what: &str) -> String {
        let service = format!("systemd-fsck-{id}.service");
        let device = format!("{}.device", escape(what));
        let after = match id {
            "root" => "initrd-root-device.target ",
            _ => "",
        };
        let text = format!(
            "[Unit]
Description=File System Check on {what}
Documentation=man:{service}(8)

DefaultDependencies=no
BindsTo={device}
Conflicts=shutdown.target
After={after}local-fs-pre.target {device}
Before=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/systemd/systemd-fsck {what}
TimeoutSec=infinity
ImportCredential=fsck.*
"
        );
        self.plan.files.file(Folder::Normal, &*service, &text);
        service
    }

    /// Somebody may be asked for a passphrase.
    fn wait_for_ever(&mut self, id: &str) {
        let path = format!("dev-mapper-{}.device.d/50-job-timeout.conf", escape(id));
        let text = "[Unit]\nJobTimeoutSec=infinity\n";
        self.plan.files.file(Folder::Late, path, text);
    }

    fn measured(&self) -> bool {
        self.settings.measured.unwrap_or(self.facts.measured)
    }
}
