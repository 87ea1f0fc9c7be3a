// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {DgcDev} from "../src/devnet/DgcDev.sol";
import {PayVault} from "../src/money/PayVault.sol";

/// What the test machine can do for a test.
interface Vm {
    function addr(uint256 key) external pure returns (address);
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function prank(address sender) external;
    function startPrank(address sender) external;
    function stopPrank() external;
    function warp(uint256 timestamp) external;
    function expectPartialRevert(bytes4 selector) external;
    function chainId(uint256 id) external;
    function expectEmit(bool first, bool second, bool third, bool data) external;
}

/// Keys, tokens and signatures for the tests of the money contracts.
abstract contract Base {
    Vm internal constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    uint128 internal constant GAS_SHARE = 0.01 ether;
    uint128 internal constant REWARD = 0.5 ether;

    DgcDev internal token;
    PayVault internal vault;
    /// Asked for once: a call in between would be the one that a test expects to be refused.
    bytes32 internal separator;
    address internal payer = VM.addr(1);
    uint256 internal signerKey = 2;
    address internal signer = VM.addr(2);
    address internal payee = VM.addr(3);
    address internal payout = VM.addr(4);
    address internal timelock = VM.addr(5);
    address internal stranger = VM.addr(6);

    error Failed(string what);

    function setUp() public virtual {
        VM.warp(1_800_000_000);
        token = new DgcDev();
        vault = new PayVault(token, timelock, GAS_SHARE, REWARD);
        separator = vault.domainSeparator();
        token.faucet(payer);
        VM.startPrank(payer);
        token.approve(address(vault), type(uint256).max);
        vault.deposit(payer, 500 ether);
        vault.setSigner(signer, 100 ether, _in(30 days), 2 ether, 1 ether);
        VM.stopPrank();
        _register(payee, payout);
    }

    function _register(address who, address to) internal {
        VM.prank(who);
        vault.registerPayee(to);
    }

    function _in(uint256 time) internal view returns (uint64) {
        return uint64(block.timestamp + time);
    }

    function _check(bool right, string memory what) internal pure {
        if (!right) revert Failed(what);
    }

    function _compact(uint256 key, bytes32 digest) internal pure returns (bytes32 r, bytes32 vs) {
        uint8 v;
        bytes32 s;
        (v, r, s) = VM.sign(key, digest);
        vs = v == 28 ? s | bytes32(uint256(1) << 255) : s;
    }

    function _typed(bytes32 structHash) internal view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", separator, structHash));
    }

    function _voucherDigest(address from, address to, uint128 cumulative, bytes32 work)
        internal
        view
        returns (bytes32)
    {
        return _typed(
            keccak256(
                abi.encode(
                    keccak256("Voucher(address payer,address payee,uint128 cumulative,bytes32 work)"),
                    from,
                    to,
                    cumulative,
                    work
                )
            )
        );
    }

    function _reservationDigest(address from, address to, uint128 upto, uint64 until, uint64 nonce)
        internal
        view
        returns (bytes32)
    {
        return _typed(
            keccak256(
                abi.encode(
                    keccak256("Reservation(address payer,address payee,uint128 upto,uint64 until,uint64 nonce)"),
                    from,
                    to,
                    upto,
                    until,
                    nonce
                )
            )
        );
    }

    function _row(uint256 key, address from, address to, uint128 cumulative)
        internal
        view
        returns (PayVault.Claim memory row)
    {
        bytes32 work = keccak256(abi.encode(to, cumulative));
        (bytes32 r, bytes32 vs) = _compact(key, _voucherDigest(from, to, cumulative, work));
        row = PayVault.Claim({payer: from, cumulative: cumulative, work: work, r: r, vs: vs});
    }

    function _claim(address to, uint128 cumulative) internal returns (uint128) {
        PayVault.Claim[] memory rows = new PayVault.Claim[](1);
        rows[0] = _row(signerKey, payer, to, cumulative);
        return vault.claim(to, rows);
    }

    function _reserve(address to, uint128 upto, uint64 until, uint64 nonce) internal {
        (bytes32 r, bytes32 vs) = _compact(signerKey, _reservationDigest(payer, to, upto, until, nonce));
        vault.reserve(payer, to, upto, until, nonce, r, vs);
    }

    function _promise(address to, uint128 amount) internal view returns (PayVault.Promise memory) {
        bytes32 work = keccak256(abi.encode(to, amount));
        (bytes32 r, bytes32 vs) = _compact(signerKey, _voucherDigest(payer, to, amount, work));
        return PayVault.Promise({payee: to, amount: amount, until: 0, nonce: 0, work: work, r: r, vs: vs});
    }

    function _reservedPromise(address to, uint128 upto, uint64 until, uint64 nonce)
        internal
        view
        returns (PayVault.Promise memory)
    {
        (bytes32 r, bytes32 vs) = _compact(signerKey, _reservationDigest(payer, to, upto, until, nonce));
        return PayVault.Promise({payee: to, amount: upto, until: until, nonce: nonce, work: 0, r: r, vs: vs});
    }

    function _sorted(address a, address b) internal pure returns (address, address) {
        return a < b ? (a, b) : (b, a);
    }
}
