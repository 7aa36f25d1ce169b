//! A small file system of one test, which can be filled and made read-only.
//!
//! It is mounted in a namespace of its own, so that nobody else sees it and nothing is left of it
//! when its last process has ended.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A mounted file system.
#[derive(Debug)]
pub struct Disk {
    /// Keeps the namespace until its stdin is closed.
    holder: Child,
    /// Whether the namespace has users of its own, who may mount though the caller may not.
    own_users: bool,
    mount_point: PathBuf,
    /// The file that the file system is in; `None` for one in memory.
    image: Option<PathBuf>,
}

impl Disk {
    /// A tmpfs of so many bytes. Needs no rights where everybody may make a user namespace.
    ///
    /// # Errors
    ///
    /// Why this machine does not permit it.
    pub fn tmpfs(mount_point: &Path, bytes: u64) -> Result<Self, String> {
        let mount = format!("mount -t tmpfs -o size={bytes},mode=700 tmpfs \"$0\"");
        Self::hold(true, &mount, mount_point, None)
    }

    /// An ext4 of so many bytes in a file, which becomes read-only by itself after an error. Needs
    /// root and a loop device.
    ///
    /// # Errors
    ///
    /// Why this machine does not permit it.
    pub fn ext4(image: &Path, mount_point: &Path, bytes: u64) -> Result<Self, String> {
        let made = File::create(image).and_then(|file| file.set_len(bytes));
        made.map_err(|error| format!("failed to make {}: {error}", image.display()))?;
        let mount = format!("mkfs.ext4 -q -m 0 \"$1\" && {MOUNT_EXT4}");
        Self::hold(false, &mount, mount_point, Some(image.to_owned()))
    }

    fn hold(
        own_users: bool,
        mount: &str,
        mount_point: &Path,
        image: Option<PathBuf>,
    ) -> Result<Self, String> {
        fs::create_dir_all(mount_point).map_err(|error| error.to_string())?;
        let mut command = Command::new("unshare");
        if own_users {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "sh", "-c", &format!("{mount} && echo mounted && exec cat")]);
        command.arg(mount_point).args(&image);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().map_err(|error| format!("unshare: {error}"))?;
        let mut said = String::new();
        if let Some(output) = &mut holder.stdout {
            // Nothing said is the end of a holder that could not mount.
            let _ = BufReader::new(output).read_line(&mut said);
        }
        let disk = Self { holder, own_users, mount_point: mount_point.to_owned(), image };
        if said == "mounted\n" { Ok(disk) } else { Err(disk.complaint()) }
    }

    /// What a holder that could not mount wrote.
    fn complaint(mut self) -> String {
        let mut why = String::new();
        if let Some(output) = &mut self.holder.stderr {
            let _ = output.read_to_string(&mut why);
        }
        why.trim().to_owned()
    }

    /// The words before a command that let it run where the disk is, in this working directory.
    pub fn enter(&self, directory: &Path) -> Vec<OsString> {
        let mut words =
            vec!["nsenter".into(), "--target".into(), self.holder.id().to_string().into()];
        if self.own_users {
            words.extend(["--user", "--preserve-credentials"].map(OsString::from));
        }
        words.push("--mount".into());
        let mut working = OsString::from("--wdns=");
        working.push(directory);
        words.extend([working, "--".into()]);
        words
    }

    /// The path under which this process, which is elsewhere, sees the disk.
    pub fn path(&self) -> PathBuf {
        let inside = self.mount_point.strip_prefix("/").unwrap_or(&self.mount_point);
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(inside)
    }

    /// Takes all room that is left.
    ///
    /// # Panics
    ///
    /// When no file can be made, or room is left.
    #[track_caller]
    pub fn fill(&self) {
        let path = self.path().join("ballast");
        let mut ballast = match File::options().create(true).append(true).open(&path) {
            Ok(ballast) => ballast,
            Err(error) => panic!("failed to make {}: {error}", path.display()),
        };
        for piece in [1 << 20, 4096, 1] {
            while ballast.write_all(&vec![1; piece]).is_ok() {}
        }
        assert!(ballast.write(&[1]).is_err());
    }

    /// Gives back so many bytes of what [`Disk::fill`] took.
    ///
    /// # Panics
    ///
    /// When it cannot.
    #[track_caller]
    pub fn release(&self, bytes: u64) {
        let ballast = File::options().write(true).open(self.path().join("ballast"));
        let released = ballast
            .and_then(|ballast| ballast.set_len(ballast.metadata()?.len().saturating_sub(bytes)));
        if let Err(error) = released {
            panic!("failed to release some of the ballast: {error}");
        }
    }

    /// Gives back all that [`Disk::fill`] took.
    ///
    /// # Panics
    ///
    /// When it cannot.
    #[track_caller]
    pub fn empty(&self) {
        if let Err(error) = fs::remove_file(self.path().join("ballast")) {
            panic!("failed to remove the ballast: {error}");
        }
    }

    /// Mounts the disk once more over itself, read-only. Unlike with [`Disk::remount`] files may be
    /// open for writing; through these it can still be written.
    #[track_caller]
    pub fn cover_read_only(&self) {
        self.run("mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\"");
    }

    /// Takes away what [`Disk::cover_read_only`] put there.
    #[track_caller]
    pub fn uncover(&self) {
        self.run("umount \"$0\"");
    }

    /// Mounts the whole disk anew with another option: `ro`, which no file may be open for writing
    /// for, `rw`, or for ext4 `abort`, which does what an error of the disk does.
    #[track_caller]
    pub fn remount(&self, option: &str) {
        // With a device named, options of the mount that is there are not repeated: those with users
        // of another namespace would be refused.
        self.run(&format!("mount -o remount,{option} none \"$0\""));
    }

    /// Takes an ext4 that no process uses through the check that follows an error, and mounts it
    /// again.
    #[track_caller]
    pub fn repair(&self) {
        // 1 is the exit code for errors that were corrected.
        self.run(&format!(
            "umount \"$0\" && {{ e2fsck -p \"$1\" || [ $? = 1 ]; }} && {MOUNT_EXT4}"
        ));
    }

    /// Runs a shell script on the disk.
    #[track_caller]
    fn run(&self, script: &str) {
        let words = self.enter(Path::new("/"));
        let output = Command::new(&words[0])
            .args(&words[1..])
            .args(["sh", "-c", script])
            .arg(&self.mount_point)
            .args(&self.image)
            .output();
        match output {
            Ok(output) if output.status.success() => {}
            Ok(output) => panic!("{script}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => panic!("failed to enter the namespace of the disk: {error}"),
        }
    }
}

const MOUNT_EXT4: &str = "mount -o loop,errors=remount-ro \"$1\" \"$0\"";

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        // It ends with its input; where it did not start there is nothing to wait for.
        let _ = self.holder.wait();
    }
}
