//! Graphics drivers that the web view does not get on with.

/// WebKitGTK shares its frames by DMA-BUF, and with NVIDIA's own driver the window may then stay blank. Where that driver
/// runs and the person has not chosen for themselves, the slower way that always draws is taken.
///
/// Must be called before the first thread is started.
pub(crate) fn avoid_blank_window() {
    #[cfg(target_os = "linux")]
    {
        const SWITCH: &str = "WEBKIT_DISABLE_DMABUF_RENDERER";
        // Only NVIDIA's kernel module makes this file; the open nouveau driver does not.
        let nvidia = std::path::Path::new("/proc/driver/nvidia/version").exists();
        if nvidia && std::env::var_os(SWITCH).is_none() {
            tracing::info!(
                "NVIDIA's driver found: {SWITCH}=1, or the window may stay blank; set {SWITCH}=0 to try without"
            );
            // SAFETY: called from main before any thread exists, so nothing reads the environment at the same time.
            #[allow(unsafe_code)]
            unsafe {
                std::env::set_var(SWITCH, "1");
            }
        }
    }
}
