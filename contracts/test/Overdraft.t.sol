// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {PayVault} from "../src/money/PayVault.sol";

/// A signer that promised more than it was granted: what can be shown, and what cannot.
contract OverdraftTest is Base {
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

    function _prove(uint128 toA, uint128 toB) internal {
        PayVault.Promise[] memory rows = new PayVault.Promise[](2);
        rows[0] = _promise(a, toA);
        rows[1] = _promise(b, toB);
        VM.prank(stranger);
        vault.proveOverdraft(payer, signer, rows);
    }

    function _settle() internal {
        address[] memory payees = new address[](2);
        payees[0] = a;
        payees[1] = b;
        vault.settleOverdraft(payer, signer, payees);
    }

    function test_an_honest_signer_cannot_be_shown_to_be_none() public {
        PayVault.Promise[] memory rows = new PayVault.Promise[](2);
        rows[0] = _promise(a, 60 ether);
        rows[1] = _promise(b, 40 ether);
        VM.expectPartialRevert(PayVault.NoOverdraft.selector);
        vault.proveOverdraft(payer, signer, rows);
        _claim(a, 60 ether);
        _claim(b, 40 ether);
        VM.expectPartialRevert(PayVault.NoOverdraft.selector);
        vault.proveOverdraft(payer, signer, rows);
    }

    function test_one_line_is_counted_once() public {
        PayVault.Promise[] memory rows = new PayVault.Promise[](2);
        rows[0] = _promise(a, 60 ether);
        rows[1] = _promise(a, 55 ether);
        VM.expectPartialRevert(PayVault.OutOfOrder.selector);
        vault.proveOverdraft(payer, signer, rows);
    }

    function test_a_signer_of_somebody_else_is_not_an_overdraft() public {
        PayVault.Promise[] memory rows = new PayVault.Promise[](1);
        rows[0] = _promise(a, 200 ether);
        VM.expectPartialRevert(PayVault.SignerUnknown.selector);
        vault.proveOverdraft(stranger, signer, rows);
        // A squatter registers the same address under its own name: the vouchers name their payer.
        token.faucet(stranger);
        VM.startPrank(stranger);
        token.approve(address(vault), 10 ether);
        vault.deposit(stranger, 10 ether);
        vault.setSigner(signer, 1 ether, _in(10 days), 0, 0);
        VM.stopPrank();
        VM.expectPartialRevert(PayVault.BadSignature.selector);
        vault.proveOverdraft(stranger, signer, rows);
    }

    function test_what_is_left_is_shared_and_the_bond_is_burnt() public {
        _claim(a, 20 ether);
        _prove(120 ether, 60 ether); // open: 100 and 60, left: 80
        _check(_claim(a, 120 ether) == 0, "nobody is faster than the sharing");
        VM.expectPartialRevert(PayVault.TooEarly.selector);
        _settle();
        VM.warp(block.timestamp + 1 days);
        _settle();
        _check(token.balanceOf(outA) == 20 ether + 50 ether, "five eighths");
        _check(token.balanceOf(outB) == 30 ether, "three eighths");
        _check(vault.balanceOf(stranger) == REWARD, "the reporter's costs");
        _check(vault.balanceOf(vault.BURNT()) == 2 ether - REWARD, "the rest of the bond");
        _settle();
        _check(token.balanceOf(outA) == 70 ether, "once");
        _check(_claim(b, 60 ether) == 0, "it is over");
    }

    function test_a_payer_mends_it_within_a_day() public {
        _prove(120 ether, 60 ether);
        VM.prank(payer);
        vault.setSigner(signer, 80 ether, _in(30 days), 0, 0);
        _settle();
        _check(_claim(a, 120 ether) == 120 ether && _claim(b, 60 ether) == 60 ether, "all is paid");
        _check(vault.signerOf(payer, signer).bond == 2 ether, "the bond is whole");
    }

    function test_a_second_overdraft_counts_from_nothing() public {
        _prove(120 ether, 60 ether);
        VM.prank(payer);
        vault.setSigner(signer, 80 ether, _in(30 days), 0, 0);
        _settle();
        _claim(a, 120 ether);
        // b is open by 60 with 60 left, and is promised 100 now.
        VM.warp(block.timestamp + 1 days);
        _prove(120 ether, 100 ether);
        VM.warp(block.timestamp + 1 days);
        _settle();
        _check(token.balanceOf(outA) == 120 ether, "what was paid is not paid again");
        _check(token.balanceOf(outB) == 60 ether, "all that was left");
    }

    function test_mending_after_the_end_gives_the_payees_their_time_back() public {
        VM.prank(payer);
        vault.endSigner(signer);
        VM.warp(block.timestamp + 14 days - 1 hours);
        _prove(120 ether, 60 ether);
        VM.warp(block.timestamp + 2 hours);
        VM.expectPartialRevert(PayVault.CaseOpen.selector);
        vault.thaw(payer, signer);
        VM.prank(payer);
        vault.setSigner(signer, 80 ether, 0, 0, 0);
        _settle();
        _check(_claim(a, 120 ether) == 120 ether, "the time to redeem began again");
    }

    function test_promises_of_others_join_within_the_day_and_not_after() public {
        _prove(120 ether, 60 ether);
        PayVault.Promise[] memory rows = new PayVault.Promise[](1);
        rows[0] = _promise(payee, 20 ether);
        vault.proveOverdraft(payer, signer, rows);
        VM.warp(block.timestamp + 1 days);
        rows[0] = _promise(payee, 90 ether);
        VM.expectPartialRevert(PayVault.Late.selector);
        vault.proveOverdraft(payer, signer, rows);
        address[] memory payees = new address[](3);
        payees[0] = a;
        payees[1] = b;
        payees[2] = payee;
        vault.settleOverdraft(payer, signer, payees);
        _check(token.balanceOf(outA) == 60 ether && token.balanceOf(payout) == 10 ether, "in parts of all 200");
    }

    function test_a_reserved_part_is_outside_the_sharing() public {
        _reserve(a, 50 ether, _in(7 days), 1);
        _prove(120 ether, 60 ether); // open: 70 and 60, free: 50
        _check(_claim(a, 120 ether) == 50 ether, "the reservation draws");
        VM.warp(block.timestamp + 1 days);
        _settle();
        _check(token.balanceOf(outA) == 50 ether + uint256(50 ether) * 70 / 130, "its share comes on top");
        _check(token.balanceOf(outB) == uint256(50 ether) * 60 / 130, "and the other's");
    }

    function test_reserving_the_rest_to_oneself_is_an_overdraft() public {
        // 60 are promised to an honest payee; the payer's own one reserves what is left of the grant.
        _reserve(b, 100 ether, _in(7 days), 1);
        PayVault.Promise[] memory rows = new PayVault.Promise[](2);
        rows[0] = _promise(a, 60 ether);
        rows[1] = _reservedPromise(b, 100 ether, _in(7 days), 1);
        vault.proveOverdraft(payer, signer, rows);
        VM.warp(block.timestamp + 1 days);
        _settle();
        _check(vault.signerOf(payer, signer).bond == 0, "it costs the bond");
    }

    /// What a payer paid to itself over many lines stands in the vault: one promise that is left over shows the rest.
    function test_what_was_paid_out_needs_no_rows() public {
        for (uint256 i = 0; i < 40; ++i) {
            address own = VM.addr(500 + i);
            _register(own, payer);
            _check(_claim(own, 2 ether) == 2 ether, "a line of its own");
        }
        _check(_claim(b, 30 ether) == 20 ether, "what is left");
        PayVault.Promise[] memory rows = new PayVault.Promise[](1);
        rows[0] = _promise(b, 30 ether);
        VM.prank(stranger);
        vault.proveOverdraft(payer, signer, rows);
        _check(vault.overdraftOf(payer, signer).promised == 110 ether, "forty lines and the one");
        VM.warp(block.timestamp + 1 days);
        _settle();
        _check(vault.signerOf(payer, signer).bond == 0, "it costs the bond");
    }

    function test_what_was_claimed_of_a_shown_line_counts_once() public {
        _claim(a, 60 ether);
        PayVault.Promise[] memory rows = new PayVault.Promise[](2);
        rows[0] = _promise(a, 70 ether);
        rows[1] = _promise(b, 30 ether);
        VM.expectPartialRevert(PayVault.NoOverdraft.selector);
        vault.proveOverdraft(payer, signer, rows);
        rows[0] = _promise(a, 50 ether);
        rows[1] = _promise(b, 40 ether);
        VM.expectPartialRevert(PayVault.NoOverdraft.selector);
        vault.proveOverdraft(payer, signer, rows);
        rows[1] = _promise(b, 40 ether + 1);
        vault.proveOverdraft(payer, signer, rows);
    }

    /// The rest of a grant that was given back was never paid to anybody.
    function test_a_promise_that_nobody_redeemed_in_time_is_no_overdraft() public {
        _claim(a, 20 ether);
        VM.prank(payer);
        vault.endSigner(signer);
        VM.warp(block.timestamp + 14 days);
        vault.thaw(payer, signer);
        _check(vault.freeOf(payer, signer) == 0, "nothing is drawn any more");
        PayVault.Promise[] memory rows = new PayVault.Promise[](2);
        rows[0] = _promise(a, 60 ether);
        rows[1] = _promise(b, 40 ether);
        VM.expectPartialRevert(PayVault.NoOverdraft.selector);
        vault.proveOverdraft(payer, signer, rows);
        rows[1] = _promise(b, 40 ether + 1);
        vault.proveOverdraft(payer, signer, rows);
    }

    /// A reservation that the vault took was signed: who only saw its event can show it.
    function test_a_reservation_in_the_vault_is_shown_without_its_signature() public {
        _reserve(b, 60 ether, _in(2 days), 1);
        PayVault.Promise[] memory rows = new PayVault.Promise[](2);
        rows[0] = _promise(a, 50 ether);
        rows[1] = PayVault.Promise({payee: b, amount: 0, until: 0, nonce: 0, work: 0, r: 0, vs: 0});
        VM.warp(block.timestamp + 2 days);
        VM.expectPartialRevert(PayVault.NoOverdraft.selector);
        vault.proveOverdraft(payer, signer, rows);
        VM.warp(block.timestamp - 1 days);
        rows[1].amount = 1;
        VM.expectPartialRevert(PayVault.BadSignature.selector);
        vault.proveOverdraft(payer, signer, rows);
        rows[1].amount = 0;
        vault.proveOverdraft(payer, signer, rows);
        _check(vault.overdraftOf(payer, signer).promised == 110 ether, "the voucher and the reservation");
    }

    /// A reservation over many lines is shown in one transaction, up to some hundred of them.
    function test_two_hundred_reservations_fit_one_transaction() public {
        uint256 lines = 200;
        PayVault.Promise[] memory rows = new PayVault.Promise[](lines + 1);
        for (uint256 i = 0; i < lines; ++i) {
            address own = address(uint160(0x100000 + i));
            _reserve(own, 0.5 ether, _in(7 days), 1);
            rows[i] = PayVault.Promise({payee: own, amount: 0, until: 0, nonce: 0, work: 0, r: 0, vs: 0});
        }
        rows[lines] = _promise(b, 1 ether);
        uint256 before = gasleft();
        vault.proveOverdraft(payer, signer, rows);
        _check(before - gasleft() < 13_000_000, "too dear for one transaction");
    }

    function test_a_reservation_that_was_given_up_is_no_promise() public {
        _reserve(a, 90 ether, _in(7 days), 1);
        VM.prank(a);
        vault.release(payer, signer, a);
        PayVault.Promise[] memory rows = new PayVault.Promise[](2);
        rows[0] = _reservedPromise(a, 90 ether, _in(7 days), 1);
        rows[1] = _promise(b, 50 ether);
        VM.expectPartialRevert(PayVault.NoOverdraft.selector);
        vault.proveOverdraft(payer, signer, rows);
    }

    function test_bond_and_balance_are_never_free_together() public {
        VM.prank(payer);
        vault.endSigner(signer);
        VM.warp(block.timestamp + 14 days);
        vault.thaw(payer, signer);
        _check(vault.signerOf(payer, signer).bond == 2 ether, "the bond is answerable for one more thaw");
        _prove(120 ether, 60 ether);
        VM.prank(payer);
        VM.expectPartialRevert(PayVault.SignerOver.selector);
        vault.setSigner(signer, 80 ether, 0, 0, 0);
        VM.warp(block.timestamp + 1 days);
        _settle();
        _check(vault.balanceOf(vault.BURNT()) == 2 ether - REWARD, "it burns");
        VM.warp(block.timestamp + 13 days);
        VM.expectPartialRevert(PayVault.SignerOver.selector);
        _prove(120 ether, 61 ether);
    }
}
