// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// A token for development networks, worth nothing. Anybody takes from its faucet.
contract DgcDev is ERC20, ERC20Permit {
    /// What one call of the faucet gives.
    uint256 public constant DRIP = 1000 ether;

    constructor() ERC20("Development DGC", "devDGC") ERC20Permit("Development DGC") {}

    function faucet(address to) external {
        _mint(to, DRIP);
    }
}
