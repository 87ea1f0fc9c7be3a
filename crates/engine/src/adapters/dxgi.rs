//! Windows' own list of adapters, with the memory that a process may take of each.

use windows::Win32::Graphics::Dxgi::{
    CreateDXGIFactory1, DXGI_ADAPTER_FLAG_SOFTWARE, DXGI_MEMORY_SEGMENT_GROUP_LOCAL,
    DXGI_QUERY_VIDEO_MEMORY_INFO, IDXGIAdapter1, IDXGIAdapter3, IDXGIFactory1,
};
use windows::core::Interface as _;

use super::{AdapterKind, AdapterMemory, Answer, MAX_ADAPTERS, Sighting};

pub(super) fn look() -> Answer {
    // SAFETY: plain calls of the system's interface; the objects count their references themselves.
    #[allow(unsafe_code)]
    unsafe {
        let factory: IDXGIFactory1 = match CreateDXGIFactory1() {
            Ok(factory) => factory,
            Err(error) => return Answer::Failed(error.message()),
        };
        // The list ends with an error that says so.
        let adapters = (0..MAX_ADAPTERS as u32).map_while(|at| factory.EnumAdapters1(at).ok());
        Answer::Sighted(adapters.filter_map(|adapter| sighting(&adapter)).collect())
    }
}

/// What the system says of one adapter.
///
/// # Safety
/// None beyond that of the system's interface: `adapter` is alive as long as it is borrowed.
#[allow(unsafe_code)]
unsafe fn sighting(adapter: &IDXGIAdapter1) -> Option<Sighting> {
    // SAFETY: the out struct lives until the call returns.
    let (facts, budget) = unsafe {
        let facts = adapter.GetDesc1().ok()?;
        let budget = adapter.cast::<IDXGIAdapter3>().ok().and_then(|adapter| {
            let mut told = DXGI_QUERY_VIDEO_MEMORY_INFO::default();
            let asked = adapter.QueryVideoMemoryInfo(0, DXGI_MEMORY_SEGMENT_GROUP_LOCAL, &mut told);
            asked.ok().map(|()| told)
        });
        (facts, budget)
    };
    let software = facts.Flags & DXGI_ADAPTER_FLAG_SOFTWARE.0 as u32 != 0;
    // A chip without memory of its own is given what the system says it may take.
    let own = facts.DedicatedVideoMemory as u64;
    let total = budget.map_or(own, |budget| own.max(budget.Budget));
    let end = facts.Description.iter().position(|&unit| unit == 0);
    let name = &facts.Description[..end.unwrap_or(facts.Description.len())];
    let luid = facts.AdapterLuid;
    let mut number = [0u8; 8];
    number[..4].copy_from_slice(&luid.LowPart.to_le_bytes());
    number[4..].copy_from_slice(&luid.HighPart.to_le_bytes());
    Some(Sighting {
        name: Some(String::from_utf16_lossy(name)),
        kind: software.then_some(AdapterKind::Software),
        vendor: Some(facts.VendorId),
        device: Some(facts.DeviceId),
        pci: None,
        luid: Some(u64::from_le_bytes(number)),
        memory: (total > 0).then(|| AdapterMemory {
            total,
            free: budget.map(|budget| budget.Budget.saturating_sub(budget.CurrentUsage)),
        }),
        busy_percent: None,
        driver: None,
    })
}
