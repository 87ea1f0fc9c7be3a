// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {IGovernor} from "@openzeppelin/contracts/governance/IGovernor.sol";
import {Vm} from "./Base.sol";
import {DgcDev} from "../src/devnet/DgcDev.sol";
import {PayVault} from "../src/money/PayVault.sol";
import {DgcGovernor} from "../src/votes/DgcGovernor.sol";
import {MemoryRegistry} from "../src/votes/MemoryRegistry.sol";
import {ModelRegistry} from "../src/votes/ModelRegistry.sol";
import {NetworkParams} from "../src/votes/NetworkParams.sol";
import {VoteDgc} from "../src/votes/VoteDgc.sol";

/// A vote from proposal to execution, and what no vote can do.
contract VotesTest {
    Vm internal constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    DgcDev internal token;
    VoteDgc internal votes;
    TimelockController internal timelock;
    DgcGovernor internal governor;
    PayVault internal vault;
    NetworkParams internal params;
    ModelRegistry internal models;
    address internal anna = VM.addr(1);
    address internal bert = VM.addr(2);

    error Failed(string what);

    function setUp() public {
        VM.warp(1_800_000_000);
        token = new DgcDev();
        votes = new VoteDgc(token);
        // Anybody may execute what has waited; proposing is the governor's alone, and nobody administers.
        address[] memory anyone = new address[](1);
        timelock = new TimelockController(2 days, new address[](0), anyone, address(this));
        governor = new DgcGovernor(votes, timelock, 1 days, 7 days, 10 ether, 4);
        timelock.grantRole(timelock.PROPOSER_ROLE(), address(governor));
        timelock.grantRole(timelock.CANCELLER_ROLE(), address(governor));
        timelock.renounceRole(timelock.DEFAULT_ADMIN_ROLE(), address(this));
        vault = new PayVault(token, address(timelock), 0, 0);
        params = new NetworkParams(address(timelock), 1000 ether);
        models = new ModelRegistry(address(timelock));
        _wrap(anna);
        _wrap(bert);
        VM.warp(block.timestamp + 1);
    }

    function _wrap(address who) internal {
        token.faucet(who);
        VM.startPrank(who);
        token.approve(address(votes), type(uint256).max);
        votes.depositFor(who, 100 ether);
        votes.delegate(who);
        VM.stopPrank();
    }

    function _check(bool right, string memory what) internal pure {
        if (!right) revert Failed(what);
    }

    function _run(address target, bytes memory call, uint8 annas, uint8 berts) internal returns (IGovernor.ProposalState) {
        (address[] memory targets, uint256[] memory values, bytes[] memory calls) = _one(target, call);
        VM.prank(anna);
        uint256 id = governor.propose(targets, values, calls, "what");
        VM.warp(block.timestamp + 1 days + 1);
        VM.prank(anna);
        governor.castVote(id, annas);
        VM.prank(bert);
        governor.castVote(id, berts);
        VM.warp(block.timestamp + 7 days);
        if (governor.state(id) != IGovernor.ProposalState.Succeeded) return governor.state(id);
        governor.queue(targets, values, calls, keccak256("what"));
        VM.warp(block.timestamp + 2 days);
        governor.execute(targets, values, calls, keccak256("what"));
        return governor.state(id);
    }

    function _one(address target, bytes memory call)
        internal
        pure
        returns (address[] memory targets, uint256[] memory values, bytes[] memory calls)
    {
        targets = new address[](1);
        targets[0] = target;
        values = new uint256[](1);
        calls = new bytes[](1);
        calls[0] = call;
    }

    function test_a_vote_sets_the_audit_rate_after_its_timelock() public {
        IGovernor.ProposalState state = _run(address(params), abi.encodeCall(params.setAuditRate, (250)), 1, 2);
        _check(state == IGovernor.ProposalState.Executed, "executed");
        _check(params.auditRate() == 250, "and done");
    }

    function test_a_vote_sets_the_fee_and_lists_a_model() public {
        _run(address(vault), abi.encodeCall(vault.setFee, (50, address(timelock))), 1, 1);
        _check(vault.feeBps() == 50, "the fee");
        _run(address(models), abi.encodeCall(models.list, ("digest", "Apache-2.0", "llama", "card")), 1, 1);
        _check(models.modelOf("digest").listed, "the model");
        _run(address(models), abi.encodeCall(models.drop, ("digest")), 1, 1);
        _check(!models.modelOf("digest").listed, "and off again");
    }

    function test_a_tie_changes_nothing() public {
        IGovernor.ProposalState state = _run(address(params), abi.encodeCall(params.setAuditRate, (250)), 1, 0);
        _check(state == IGovernor.ProposalState.Defeated && params.auditRate() == 100, "as before");
    }

    function test_bounds_hold_against_a_vote() public {
        (address[] memory targets, uint256[] memory values, bytes[] memory calls) =
            _one(address(params), abi.encodeCall(params.setAuditRate, (501)));
        VM.prank(anna);
        uint256 id = governor.propose(targets, values, calls, "too much");
        VM.warp(block.timestamp + 1 days + 1);
        VM.prank(anna);
        governor.castVote(id, 1);
        VM.warp(block.timestamp + 7 days);
        governor.queue(targets, values, calls, keccak256("too much"));
        VM.warp(block.timestamp + 2 days);
        VM.expectPartialRevert(NetworkParams.OutOfBounds.selector);
        governor.execute(targets, values, calls, keccak256("too much"));
    }

    function test_only_the_timelock_sets_anything() public {
        VM.startPrank(anna);
        VM.expectPartialRevert(NetworkParams.NotSetter.selector);
        params.setAuditRate(1);
        VM.expectPartialRevert(ModelRegistry.NotSetter.selector);
        models.list("digest", "MIT", "llama", 0);
        VM.expectPartialRevert(PayVault.NotFeeSetter.selector);
        vault.setFee(1, anna);
        VM.stopPrank();
    }

    function test_nobody_administers_the_timelock() public view {
        bytes32 admin = timelock.DEFAULT_ADMIN_ROLE();
        _check(!timelock.hasRole(admin, address(this)) && !timelock.hasRole(admin, address(governor)), "nobody");
    }

    function test_votes_are_wrapped_and_unwrapped_one_to_one() public {
        VM.startPrank(anna);
        votes.withdrawTo(anna, 100 ether);
        VM.stopPrank();
        _check(token.balanceOf(anna) == 1000 ether && votes.totalSupply() == 100 ether, "one to one");
    }

    function test_a_backup_pointer_only_moves_on() public {
        MemoryRegistry memories = new MemoryRegistry();
        VM.startPrank(anna);
        memories.point("new", 2);
        VM.expectPartialRevert(MemoryRegistry.NotNewer.selector);
        memories.point("old", 2);
        VM.stopPrank();
        (bytes32 manifest, uint64 generation) = memories.pointerOf(anna);
        _check(manifest == "new" && generation == 2, "the newest");
    }
}
