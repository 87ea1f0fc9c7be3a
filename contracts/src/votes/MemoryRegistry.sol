// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// Where somebody's newest backup is to be found: a hash and a number that only grows, so that no peer can serve an old
/// one unseen. The chain learns nothing else.
contract MemoryRegistry {
    struct Pointer {
        bytes32 manifest;
        uint64 generation;
    }

    mapping(address owner => Pointer) public pointerOf;

    event Pointed(address indexed owner, uint64 generation, bytes32 manifest);

    error NotNewer(uint64 has, uint64 given);

    function point(bytes32 manifest, uint64 generation) external {
        uint64 has = pointerOf[msg.sender].generation;
        require(generation > has, NotNewer(has, generation));
        pointerOf[msg.sender] = Pointer({manifest: manifest, generation: generation});
        emit Pointed(msg.sender, generation, manifest);
    }
}
