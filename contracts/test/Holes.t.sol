// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {PayVault} from "../src/money/PayVault.sol";

/// A payer that is a contract: it mends its overdraft and shows the next one in one transaction.
contract Juggler {
    PayVault internal immutable VAULT;

    constructor(PayVault vault) {
        VAULT = vault;
    }

    function begin(address signer, uint128 grant, uint64 until) external {
        VAULT.setSigner(signer, grant, until, 0, 0);
        VAULT.endSigner(signer);
    }

    function show(address signer, PayVault.Promise[] calldata rows) external {
        VAULT.proveOverdraft(address(this), signer, rows);
    }

    function mendAndShow(address signer, uint128 add, PayVault.Promise[] calldata rows) external {
        VAULT.setSigner(signer, add, type(uint64).max, 0, 0);
        VAULT.proveOverdraft(address(this), signer, rows);
    }
}

/// Ways around the rules that were open once.
contract HolesTest is Base {
    event Released(address indexed payer, address indexed payee, address indexed signer, uint64 nonce);

    address internal a;
    address internal b;
    address internal outA = VM.addr(31);
    address internal outB = VM.addr(32);

    function setUp() public override {
        super.setUp();
        (a, b) = _sorted(VM.addr(21), VM.addr(22));
        _register(a, outA);
        _register(b, outB);
    }

    function _show(address payee, uint128 amount) internal {
        PayVault.Promise[] memory rows = new PayVault.Promise[](1);
        rows[0] = _promise(payee, amount);
        VM.prank(stranger);
        vault.proveOverdraft(payer, signer, rows);
    }

    function _settle() internal {
        address[] memory payees = new address[](2);
        (payees[0], payees[1]) = (a, b);
        vault.settleOverdraft(payer, signer, payees);
    }

    /// A claim across a reservation's level would count the reserved part as free once more, and pay it out of others' balances.
    function test_a_claim_across_its_reservation_pays_the_grant_and_no_more() public {
        _reserve(a, 60 ether, _in(1 days), 1);
        _check(_claim(a, 160 ether) == 100 ether, "more than the grant");
        _check(vault.signerOf(payer, signer).spent == 100 ether, "spent");
        _check(vault.freeOf(payer, signer) == 0, "free");
        _check(token.balanceOf(outA) == 100 ether, "paid");
    }

    /// Case after case, for one unit a day, would hold up what the grant covers.
    function test_claims_are_held_up_for_a_day_and_then_drawn() public {
        Juggler juggler = new Juggler(vault);
        VM.prank(payer);
        vault.deposit(address(juggler), 200 ether);
        juggler.begin(signer, 100 ether, _in(30 days));
        payer = address(juggler);
        PayVault.Promise[] memory own = new PayVault.Promise[](1);
        own[0] = _promise(b, 100 ether + 1);
        juggler.show(signer, own);
        VM.warp(block.timestamp + 1 days - 1);
        own[0] = _promise(b, 100 ether + 2);
        VM.expectPartialRevert(PayVault.TooEarly.selector);
        juggler.mendAndShow(signer, 1, own);
        own = new PayVault.Promise[](0);
        _check(_claim(a, 40 ether) == 0, "the case is open");
        VM.prank(payer);
        vault.setSigner(signer, 1, 0, 0, 0);
        _check(_claim(a, 40 ether) == 40 ether, "the day after a mend belongs to the payees");
    }

    /// What an expired reservation still locks belongs to the share, and not to who overdrew.
    function test_a_lock_that_is_over_is_shared() public {
        _reserve(payee, 60 ether, _in(1 days), 1);
        PayVault.Promise[] memory rows = new PayVault.Promise[](2);
        rows[0] = _promise(a, 120 ether);
        rows[1] = _promise(b, 80 ether);
        vault.proveOverdraft(payer, signer, rows);
        VM.warp(block.timestamp + 1 days);
        vault.settleOverdraft(payer, signer, new address[](0));
        vault.release(payer, signer, payee);
        _settle();
        _check(token.balanceOf(outA) == 60 ether && token.balanceOf(outB) == 40 ether, "all of the grant");
        VM.warp(block.timestamp + 14 days);
        vault.thaw(payer, signer);
        _check(vault.balanceOf(payer) == 397 ether, "and nothing of it came home");
    }

    /// A signer frees in its books what the event names, and no more.
    function test_a_release_says_up_to_which_reservation() public {
        VM.expectEmit(true, true, true, true);
        emit Released(payer, a, signer, 0);
        VM.prank(stranger);
        vault.release(payer, signer, a);
        _reserve(a, 10 ether, _in(2 days), 3);
        VM.expectEmit(true, true, true, true);
        emit Released(payer, a, signer, 3);
        VM.prank(a);
        vault.release(payer, signer, a);
    }

    function test_an_intent_counts_once() public {
        PayVault.Start memory intent = PayVault.Start({
            payer: payer,
            deposit: 0,
            signer: signer,
            grant: 50 ether,
            until: _in(40 days),
            bond: 0,
            gasPot: 0,
            relayerFee: 0,
            nonce: 7,
            deadline: block.timestamp + 1 days
        });
        PayVault.Permit memory none;
        (bytes32 r, bytes32 vs) = _compact(
            1,
            _typed(
                keccak256(
                    abi.encode(
                        keccak256(
                            "Start(address payer,uint128 deposit,address signer,uint128 grant,uint64 until,uint128 bond,uint128 gasPot,uint128 relayerFee,uint256 nonce,uint256 deadline)"
                        ),
                        intent
                    )
                )
            )
        );
        VM.prank(payer);
        vault.start(intent, none);
        VM.expectPartialRevert(PayVault.NonceUsed.selector);
        vault.startFor(intent, none, r, vs);
        _check(vault.signerOf(payer, signer).granted == 150 ether, "granted once");
    }

    /// Who shows itself loses half of a small bond all the same.
    function test_a_small_bond_does_not_come_home() public {
        VM.prank(payer);
        vault.setSigner(VM.addr(77), 10 ether, _in(30 days), REWARD, 0);
        (signerKey, signer) = (77, VM.addr(77));
        uint128 before = vault.balanceOf(payer);
        PayVault.Promise[] memory rows = new PayVault.Promise[](1);
        rows[0] = _promise(b, 10 ether + 1);
        VM.prank(payer);
        vault.proveOverdraft(payer, signer, rows);
        VM.warp(block.timestamp + 1 days);
        vault.settleOverdraft(payer, signer, new address[](0));
        _check(vault.balanceOf(payer) == before + REWARD / 2, "half");
        _check(vault.balanceOf(vault.BURNT()) == REWARD / 2, "and half is burnt");
    }

    /// A promise that was held back to the last second begins a day of its own.
    function test_who_mends_in_time_keeps_its_bond() public {
        _show(a, 120 ether);
        VM.warp(block.timestamp + 12 hours);
        VM.prank(payer);
        vault.setSigner(signer, 20 ether, _in(30 days), 0, 0);
        _settle();
        _check(vault.signerOf(payer, signer).bond == 2 ether, "mended is mended");
        VM.warp(block.timestamp + 1 days);
        PayVault.Promise[] memory rows = new PayVault.Promise[](2);
        rows[0] = _promise(a, 120 ether);
        rows[1] = _promise(b, 1);
        vault.proveOverdraft(payer, signer, rows);
        VM.expectPartialRevert(PayVault.TooEarly.selector);
        _settle();
    }

    function test_a_payee_without_a_payout_holds_up_nobody() public {
        address unknown = VM.addr(99);
        _show(unknown, 120 ether);
        _show(a, 80 ether);
        VM.warp(block.timestamp + 1 days);
        address[] memory payees = new address[](2);
        (payees[0], payees[1]) = (unknown, a);
        vault.settleOverdraft(payer, signer, payees);
        _check(token.balanceOf(outA) == 40 ether, "two fifths");
        _register(unknown, outB);
        vault.settleOverdraft(payer, signer, payees);
        _check(token.balanceOf(outB) == 60 ether, "and the other's, once it says where to");
    }

    /// Whatever is promised, claimed and reserved: shares sum to no more than there is, and nobody gets above its promise.
    function testFuzz_shares_sum_to_no_more_than_there_is(uint128 x, uint128 y, uint128 z, uint128 claimed, uint128 held)
        public
    {
        x = x % 200 ether;
        y = y % 200 ether;
        z = type(uint128).max - z;
        claimed = claimed % 30 ether;
        held = held % 30 ether;
        if (claimed != 0) _claim(a, claimed);
        if (held != 0) _reserve(b, held, _in(7 days), 1);
        _show(a, x + 100 ether + 1);
        _show(b, y + 1);
        _show(payee, z);
        VM.warp(block.timestamp + 1 days);
        address[] memory payees = new address[](3);
        (payees[0], payees[1], payees[2]) = (a, b, payee);
        vault.settleOverdraft(payer, signer, payees);
        vault.settleOverdraft(payer, signer, payees);
        _claim(b, y + 1);
        VM.warp(block.timestamp + 30 days);
        vault.thaw(payer, signer);
        uint256 owed = uint256(vault.balanceOf(payer)) + vault.balanceOf(vault.BURNT()) + vault.balanceOf(stranger);
        uint256 has = token.balanceOf(address(vault));
        _check(has >= owed && has - owed < 4, "solvent, to the dust");
        _check(token.balanceOf(outA) <= uint256(x) + 100 ether + 1, "a is not above its promise");
        _check(token.balanceOf(outB) <= uint256(y) + 1 + GAS_SHARE, "nor is b");
    }
}
