// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {ISigningDomain, ISlashShare, ProviderStake} from "../src/money/ProviderStake.sol";
import {NetworkParams} from "../src/votes/NetworkParams.sol";

contract ProviderStakeTest is Base {
    ProviderStake internal stakes;
    NetworkParams internal params;
    address internal owner = VM.addr(41);
    address internal operator = VM.addr(42);
    address internal pool = VM.addr(43);

    function setUp() public override {
        super.setUp();
        params = new NetworkParams(timelock, 1000 ether);
        stakes = new ProviderStake(token, ISigningDomain(address(vault)), ISlashShare(address(params)), pool);
        token.faucet(owner);
        VM.startPrank(owner);
        token.approve(address(stakes), type(uint256).max);
        stakes.stake(100 ether);
        (bytes32 r, bytes32 vs) = _consent(42, owner);
        stakes.setOperator(operator, r, vs);
        VM.stopPrank();
    }

    function _consent(uint256 key, address to) internal view returns (bytes32, bytes32) {
        return _compact(
            key,
            _typed(keccak256(abi.encode(keccak256("Operator(address stake,address owner)"), address(stakes), to)))
        );
    }

    function _final(bytes32 output, uint32 count) internal view returns (ProviderStake.Final memory) {
        return ProviderStake.Final({
            job: keccak256("job"),
            node: operator,
            model: keccak256("model"),
            output: output,
            outTokens: count,
            expiry: _in(10 minutes)
        });
    }

    function _sign(uint256 key, ProviderStake.Final memory f) internal view returns (bytes32, bytes32) {
        return _compact(
            key,
            _typed(
                keccak256(
                    abi.encode(
                        keccak256(
                            "Final(bytes32 job,address node,bytes32 model,bytes32 output,uint32 outTokens,uint64 expiry)"
                        ),
                        f
                    )
                )
            )
        );
    }

    function _show(uint256 keyA, ProviderStake.Final memory a, uint256 keyB, ProviderStake.Final memory b) internal {
        (bytes32 ra, bytes32 vsa) = _sign(keyA, a);
        (bytes32 rb, bytes32 vsb) = _sign(keyB, b);
        VM.prank(stranger);
        stakes.slash(a, ra, vsa, b, rb, vsb);
    }

    function _refused(bytes4 why, uint256 keyA, ProviderStake.Final memory a, uint256 keyB, ProviderStake.Final memory b)
        internal
    {
        (bytes32 ra, bytes32 vsa) = _sign(keyA, a);
        (bytes32 rb, bytes32 vsb) = _sign(keyB, b);
        VM.expectPartialRevert(why);
        stakes.slash(a, ra, vsa, b, rb, vsb);
    }

    function _staked() internal view returns (uint128 amount, uint128 thawing) {
        (amount, thawing,,) = stakes.stakeOf(owner);
    }

    function test_two_different_finals_of_one_job_cost_a_tenth() public {
        _show(42, _final("one", 9), 42, _final("two", 9));
        (uint128 amount,) = _staked();
        _check(amount == 90 ether, "a tenth");
        _check(stakes.rewardOf(stakes.BURNT()) == 5 ether, "half is burnt");
        _check(stakes.rewardOf(stranger) == 3 ether, "who showed it");
        _check(stakes.rewardOf(pool) == 2 ether, "the audits");
        VM.prank(stranger);
        stakes.takeReward();
        _check(token.balanceOf(stranger) == 3 ether, "it can be taken");
    }

    function test_what_is_no_fault_is_refused() public {
        ProviderStake.Final memory one = _final("one", 9);
        _refused(ProviderStake.NoFault.selector, 42, one, 42, one);
        // A longer answer is not another answer.
        _refused(ProviderStake.NoFault.selector, 42, one, 42, _final("two", 10));
        ProviderStake.Final memory other = _final("two", 9);
        other.job = keccak256("another");
        _refused(ProviderStake.NoFault.selector, 42, one, 42, other);
        other = _final("two", 9);
        other.node = stranger;
        _refused(ProviderStake.NoFault.selector, 42, one, 42, other);
        _refused(ProviderStake.BadSignature.selector, 42, one, 99, _final("two", 9));
        _refused(ProviderStake.NotOwner.selector, 99, one, 99, _final("two", 9));
    }

    function test_one_slash_a_key() public {
        _show(42, _final("one", 9), 42, _final("two", 9));
        _refused(ProviderStake.OperatorOver.selector, 42, _final("one", 9), 42, _final("three", 9));
    }

    function test_the_second_fault_of_an_owner_costs_more() public {
        _show(42, _final("one", 9), 42, _final("two", 9));
        (bytes32 r, bytes32 vs) = _consent(44, owner);
        VM.prank(owner);
        stakes.setOperator(VM.addr(44), r, vs);
        _show(44, _final("one", 9), 44, _final("two", 9));
        (uint128 amount,) = _staked();
        _check(amount == 72 ether, "a fifth of what was left");
    }

    function test_leaving_is_no_way_around_it() public {
        VM.startPrank(owner);
        stakes.thaw(100 ether);
        VM.expectPartialRevert(ProviderStake.TooEarly.selector);
        stakes.unstake();
        VM.stopPrank();
        VM.warp(block.timestamp + 13 days);
        _show(42, _final("one", 9), 42, _final("two", 9));
        VM.warp(block.timestamp + 1 days);
        VM.prank(owner);
        stakes.unstake();
        _check(token.balanceOf(owner) == 900 ether + 90 ether, "less the slash");
    }

    function test_a_retired_key_answers_for_a_thaw_and_lapses() public {
        VM.prank(owner);
        stakes.retireOperator(operator);
        VM.warp(block.timestamp + 14 days);
        _refused(ProviderStake.OperatorOver.selector, 42, _final("one", 9), 42, _final("two", 9));
    }

    function test_a_fault_is_shown_in_time() public {
        ProviderStake.Final memory one = _final("one", 9);
        ProviderStake.Final memory two = _final("two", 9);
        VM.warp(block.timestamp + 7 days + 11 minutes);
        _refused(ProviderStake.TooLate.selector, 42, one, 42, two);
    }

    function test_nobody_binds_a_key_that_did_not_agree() public {
        (bytes32 r, bytes32 vs) = _consent(44, owner);
        VM.prank(stranger);
        VM.expectPartialRevert(ProviderStake.BadSignature.selector);
        stakes.setOperator(VM.addr(44), r, vs);
        (r, vs) = _consent(42, stranger);
        VM.prank(stranger);
        VM.expectPartialRevert(ProviderStake.OperatorKnown.selector);
        stakes.setOperator(operator, r, vs);
    }

    function test_a_vote_bounds_the_slash() public {
        VM.startPrank(timelock);
        VM.expectPartialRevert(NetworkParams.OutOfBounds.selector);
        params.setSlash(5001);
        params.setSlash(5000);
        VM.stopPrank();
        _show(42, _final("one", 9), 42, _final("two", 9));
        (uint128 amount,) = _staked();
        _check(amount == 50 ether, "half at most");
    }
}
