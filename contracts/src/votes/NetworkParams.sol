// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// The numbers that a vote may change, each within bounds that it may not. Nodes read them and obey.
contract NetworkParams {
    /// Jobs that are audited, in parts of 10,000.
    uint16 public auditRate;
    /// The auditors' part of the fee, in parts of 10,000.
    uint16 public auditorShareBps;
    /// The first slash of a stake, in parts of 10,000; it rises with each further fault.
    uint16 public slashBps;
    /// The stake that is asked of a provider, in base units.
    uint128 public minimumStake;

    uint16 public constant MAX_AUDIT_RATE = 500;
    uint16 public constant MAX_AUDITOR_SHARE_BPS = 5000;
    uint16 public constant MAX_SLASH_BPS = 5000;
    /// A higher one could close the network to newcomers.
    uint128 public immutable MAX_MINIMUM_STAKE;
    /// The vote's timelock.
    address public immutable SETTER;

    event AuditRateSet(uint16 rate);
    event AuditorShareSet(uint16 bps);
    event SlashSet(uint16 bps);
    event MinimumStakeSet(uint128 amount);

    error NotSetter();
    error OutOfBounds(uint256 value, uint256 max);

    modifier onlySetter() {
        require(msg.sender == SETTER, NotSetter());
        _;
    }

    constructor(address setter, uint128 maxMinimumStake) {
        SETTER = setter;
        MAX_MINIMUM_STAKE = maxMinimumStake;
        auditRate = 100;
        auditorShareBps = 2000;
        slashBps = 1000;
    }

    function setAuditRate(uint16 rate) external onlySetter {
        _within(rate, MAX_AUDIT_RATE);
        auditRate = rate;
        emit AuditRateSet(rate);
    }

    function setAuditorShare(uint16 bps) external onlySetter {
        _within(bps, MAX_AUDITOR_SHARE_BPS);
        auditorShareBps = bps;
        emit AuditorShareSet(bps);
    }

    function setSlash(uint16 bps) external onlySetter {
        _within(bps, MAX_SLASH_BPS);
        slashBps = bps;
        emit SlashSet(bps);
    }

    function setMinimumStake(uint128 amount) external onlySetter {
        _within(amount, MAX_MINIMUM_STAKE);
        minimumStake = amount;
        emit MinimumStakeSet(amount);
    }

    function _within(uint256 value, uint256 max) private pure {
        require(value <= max, OutOfBounds(value, max));
    }
}
